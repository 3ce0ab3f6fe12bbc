"""Damaged, truncated and absurd volumes are refused with a message that says what is wrong."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from nnmedseg.data.volumes import read_channels, read_volume
from nnmedseg.errors import DataError

VALUES = np.random.default_rng(1).integers(-999, 999, (4, 5, 6)).astype(np.int16)
NIFTI_DIM = 40
NIFTI_DATATYPE = 70
NIFTI_PIXDIM = 76
NIFTI_VOX_OFFSET = 108


def refusal(path: Path) -> str:
    """Return what is said about a file that must be refused, without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as raised:
            read_channels(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)
    assert raised.value.mend
    return raised.value.what


def refusal_of(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    return refusal(path)


@pytest.fixture
def nifti(tmp_path) -> bytearray:
    """The content of a NIfTI file, not compressed."""
    nibabel.Nifti1Image(VALUES.T, np.diag([1, 2, 3, 1])).to_filename(tmp_path / "good.nii")
    return bytearray((tmp_path / "good.nii").read_bytes())


def written(ending: str, folder: Path, *, compressed: bool = False) -> Path:
    path = folder / f"volume{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(path), compressed)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_empty_files_are_named_as_such(ending, tmp_path):
    assert refusal_of(b"", tmp_path / f"volume{ending}") == "the file is empty"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("start", "text"),
    [(b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"<!DOCTYPE html>", "web page"),
     (b"PK\3\4", "ZIP"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
     (b"\x01\x02\x03\x04", "not a NIfTI, NRRD or MetaImage file")],
)  # fmt: skip
def test_other_files_under_a_volumes_name_are_named(start, text, ending, tmp_path):
    assert text in refusal_of(start + bytes(1000), tmp_path / f"volume{ending}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"(?s)No such file.*missing\.nii"):
        read_volume(tmp_path / "missing.nii")


def test_gzip_of_something_else_is_no_volume(tmp_path):
    what = refusal_of(gzip.compress(b"hello" * 1000), tmp_path / "volume.nii.gz")
    assert "compressed, but what it holds is no NIfTI" in what


@pytest.mark.parametrize("kept", [5, 100, 347, 348, 351, 352, 353, 400, -1])
def test_truncated_nifti_is_refused(kept, nifti, tmp_path):
    assert "truncated" in refusal_of(nifti[:kept], tmp_path / "volume.nii")


def test_truncated_compressed_nifti_is_refused_wherever_it_is_cut(nifti, tmp_path):
    packed = gzip.compress(nifti)
    for kept in [*range(2, len(packed), 7), *range(len(packed) - 12, len(packed))]:
        assert "truncated" in refusal_of(packed[:kept], tmp_path / "volume.nii.gz")


@pytest.mark.parametrize("position", [-8, -4])
def test_a_wrong_checksum_is_refused(position, nifti, tmp_path):
    packed = bytearray(gzip.compress(nifti))
    packed[position] ^= 1
    assert "damaged" in refusal_of(packed, tmp_path / "volume.nii.gz")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("sizes", "text"),
    [((30000, 30000, 30000), "30000 x 30000 x 30000 voxels; at most"),
     ((1200, 1200, 1200), "truncated: its header needs 3,456,000,352 bytes"),
     ((6, 0, 4), "no voxels: the header says 6 x 0 x 4"),
     ((6, -5, 4), "no voxels: the header says 6 x -5 x 4"),
     ((6, 5, 5), "truncated: its header needs 652 bytes")],
)  # fmt: skip
def test_impossible_sizes_in_nifti_are_refused(sizes, text, packed, nifti, tmp_path):
    nifti[NIFTI_DIM + 2 : NIFTI_DIM + 8] = np.array(sizes, "<i2").tobytes()
    content = gzip.compress(nifti) if packed else nifti
    assert text in refusal_of(content, tmp_path / "volume.nii.gz").replace("there are 592", "")


@pytest.mark.parametrize("dimensions", [0, 1, 8, -3])
def test_impossible_numbers_of_dimensions_are_refused(dimensions, nifti, tmp_path):
    nifti[NIFTI_DIM : NIFTI_DIM + 2] = np.array([dimensions], "<i2").tobytes()
    assert "dimensions" in refusal_of(nifti, tmp_path / "volume.nii")


def test_five_dimensions_are_refused(tmp_path):
    nibabel.Nifti1Image(np.zeros((4, 3, 2, 2, 3)), np.eye(4)).to_filename(tmp_path / "volume.nii")
    assert "5 dimensions (4 x 3 x 2 x 2 x 3)" in refusal(tmp_path / "volume.nii")


@pytest.mark.parametrize(
    ("code", "name"), [(32, "COMPLEX64"), (128, "RGB24"), (1536, "FLOAT128"), (999, "type 999")]
)
def test_types_that_are_not_one_number_are_refused(code, name, nifti, tmp_path):
    nifti[NIFTI_DATATYPE : NIFTI_DATATYPE + 2] = np.array([code], "<i2").tobytes()
    assert f"of the type {name}, which is not read" in refusal_of(nifti, tmp_path / "volume.nii")


@pytest.mark.parametrize("spacing", [0, -1, np.nan, np.inf])
def test_spacing_that_is_not_positive_is_refused(spacing, nifti, tmp_path):
    nifti[NIFTI_PIXDIM + 8 : NIFTI_PIXDIM + 12] = np.array([spacing], "<f4").tobytes()
    assert "spacing must be positive" in refusal_of(nifti, tmp_path / "volume.nii")


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("field", ["qoffset_x", "quatern_b", "srow_y"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_position_that_is_not_a_number_is_refused(value, field, image_class, tmp_path):
    image = image_class(VALUES.T, np.eye(4))
    image.set_qform(np.eye(4), 1)
    image.header[field] = value
    image.header["vox_offset"] = image.header.single_vox_offset
    content = image.header.binaryblock + bytes(4) + VALUES.tobytes()
    assert f"{field} in its header" in refusal_of(content, tmp_path / "volume.nii")


@pytest.mark.parametrize("offset", [0, 100, 352.5, np.nan, 1e30, -352])
def test_voxels_cannot_start_anywhere(offset, nifti, tmp_path):
    nifti[NIFTI_VOX_OFFSET : NIFTI_VOX_OFFSET + 4] = np.array([offset], "<f4").tobytes()
    assert "voxels start at byte" in refusal_of(nifti, tmp_path / "volume.nii")


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_sheared_grids_are_refused(ending, tmp_path):
    sheared = np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])
    path = tmp_path / f"volume{ending}"
    if ending == ".nii":
        image = nibabel.Nifti1Image(VALUES.T, None)
        affine = np.eye(4)
        affine[:3, :3] = sheared
        image.set_sform(affine, 1)
        image.set_qform(None, 0)
        image.to_filename(path)
    else:
        written(ending, tmp_path)
        plain = {".nrrd": b"(1,0,0) (0,1,0)", ".mha": b"1 0 0 0 1 0 0 0 1"}[ending]
        oblique = {".nrrd": b"(1,0.2,0) (0,1,0)", ".mha": b"1 0.2 0 0 1 0 0 0 1"}[ending]
        assert plain in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(plain, oblique))
    assert "not at right angles" in refusal(path)


def test_a_header_without_its_image_file_is_refused(tmp_path):
    nibabel.Nifti1Pair(VALUES.T, np.eye(4)).to_filename(tmp_path / "volume.hdr")
    (tmp_path / "volume.hdr").rename(tmp_path / "volume.nii")
    assert "two files" in refusal(tmp_path / "volume.nii")


def test_a_gzip_bomb_is_not_decompressed(nifti, tmp_path):
    bomb = gzip.compress(bytes(nifti) + bytes(2**28))
    what = refusal_of(bomb, tmp_path / "volume.nii.gz")
    assert what == "the file goes on after the 592 bytes that its header needs"


def test_a_compressed_file_that_claims_more_than_it_can_hold_is_refused(nifti, tmp_path):
    nifti[NIFTI_DIM + 2 : NIFTI_DIM + 8] = np.array((1000, 1000, 1000), "<i2").tobytes()
    assert "cannot hold them" in refusal_of(gzip.compress(nifti), tmp_path / "volume.nii.gz")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nhdr", ".mhd"])
def test_truncated_voxels_behind_a_text_header_are_refused(ending, compressed, tmp_path):
    path = written(ending, tmp_path, compressed=compressed)
    (holder,) = [other for other in tmp_path.iterdir() if other != path] or [path]
    content = holder.read_bytes()
    for cut in (1, 4, 8, 9, 100, 150):
        holder.write_bytes(content[:-cut])
        assert "truncated" in refusal(path)
    if holder != path:
        holder.unlink()
        assert f"{holder.name}, cannot be read: No such file" in refusal(path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_damage_in_compressed_voxels_is_noticed_where_simpleitk_is_silent(ending, tmp_path):
    path = written(ending, tmp_path, compressed=True)
    content = bytearray(path.read_bytes())
    content[-20] ^= 0x55
    assert "damaged" in refusal_of(content, path)


@pytest.mark.parametrize("cut", [3, 40, 120])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_truncated_text_headers_are_refused(ending, cut, tmp_path):
    path = written(ending, tmp_path)
    refusal_of(path.read_bytes()[:cut], path)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(
    ("sizes", "text"),
    [("30000 30000 30000", "at most"), ("1000 1000 1000", "truncated"), ("6 0 4", "no voxels"),
     ("6 -5 4", "no voxels"), ("6 5 nan", "whole numbers"), ("6 5 x", "no list of numbers"),
     ("6 5", "2 sizes"), ("1e400 2 3", "whole numbers")],
)  # fmt: skip
def test_impossible_sizes_in_text_headers_are_refused(ending, sizes, text, tmp_path):
    path = written(ending, tmp_path)
    content = path.read_bytes()
    assert b" 6 5 4\n" in content
    assert text in refusal_of(content.replace(b" 6 5 4\n", f" {sizes}\n".encode()), path)


def test_a_name_of_a_file_that_cannot_be_one_is_refused(tmp_path):
    path = written(".mhd", tmp_path)
    content = path.read_bytes().replace(b"volume.raw", b"vol\0ume.raw")
    assert "cannot be read" in refusal_of(content, path)


@pytest.mark.parametrize("name", ["../volume.raw", "/etc/passwd", "sub/../../volume.raw"])
@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_voxels_outside_of_the_headers_folder_are_not_read(ending, name, tmp_path):
    (tmp_path / "case").mkdir()
    path = written(ending, tmp_path / "case")
    (tmp_path / "case" / "volume.raw").rename(tmp_path / "volume.raw")
    content = path.read_bytes().replace(b"volume.raw", name.encode())
    assert "outside of its folder" in refusal_of(content, path)


@pytest.mark.parametrize(
    ("ending", "line", "other", "text"),
    [
        (".nrrd", b"encoding: raw", b"encoding: hex", "'hex' are not read"),
        (".nrrd", b"type: short", b"type: block", "'block'"),
        (".nrrd", b"endian: little\n", b"", "byte order"),
        (".nrrd", b"(0,0,1)", b"(0,0,0)", "spacing must be positive"),
        (".nrrd", b"(0,0,1)", b"(0,0,nan)", "spacing must be positive"),
        (".nhdr", b"data file: volume.raw", b"data file: LIST\na.raw", "file for each slice"),
        (".mha", b"MET_SHORT", b"MET_STRING", "MET_STRING"),
        (".mha", b"BinaryData = True", b"BinaryData = False", "'False' as BinaryData"),
        (".mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 0 1", "spacing must be positive"),
        (".mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1", "2 numbers"),
        (".mhd", b"volume.raw", b"LIST", "file for each slice"),
    ],
)
def test_what_text_headers_cannot_mean_is_refused(ending, line, other, text, tmp_path):
    path = written(ending, tmp_path)
    content = path.read_bytes()
    assert line in content
    assert text in refusal_of(content.replace(line, other), path)


def test_a_bomb_behind_a_text_header_is_not_decompressed(tmp_path):
    path = written(".mha", tmp_path, compressed=True)
    header = path.read_bytes().partition(b"LOCAL\n")[0] + b"LOCAL\n"
    bomb = header + zlib.compress(VALUES.tobytes() + bytes(2**28))
    assert "goes on after the 240 bytes" in refusal_of(bomb, path)
