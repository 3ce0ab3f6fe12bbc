"""NRRD and MetaImage headers as other programs write them mean what they mean to SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnmedseg.data.volumes import read_channels, read_volume
from nnmedseg.errors import DataError

VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4)
DIRECTIONS = "space directions: (0,1.5,0) (2,0,0) (0,0,3)\nspace origin: (5,6,7)"


def nrrd(folder: Path, fields: str, values: np.ndarray = VALUES) -> Path:
    sizes = " ".join(str(size) for size in values.shape[::-1])
    endian = "little" if values.dtype.str[0] == "<" else "big"
    header = (
        f"NRRD0004\n# comment: none\ntype: short\ndimension: {values.ndim}\nsizes: {sizes}\n"
        f"endian: {endian}\nencoding: raw\n{fields}\nkey:=value: text\n\n"
    )
    (folder / "volume.nrrd").write_bytes(header.encode() + values.tobytes())
    return folder / "volume.nrrd"


def metaimage(folder: Path, fields: str, values: np.ndarray = VALUES, file: str = "LOCAL") -> Path:
    sizes = " ".join(str(size) for size in values.shape[::-1])
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\n{fields}\nDimSize = {sizes}\n"
        f"ElementType = MET_SHORT\nElementDataFile = {file}\n"
    )
    content = values.tobytes() if file == "LOCAL" else b""
    (folder / "volume.mha").write_bytes(header.encode() + content)
    return folder / "volume.mha"


def assert_read_as_simpleitk_does(path: Path) -> None:
    volume, image = read_volume(path), SimpleITK.ReadImage(str(path))
    assert np.array_equal(volume.values, SimpleITK.GetArrayFromImage(image))
    assert np.allclose(volume.spacing[::-1], image.GetSpacing())
    assert np.allclose(volume.origin, image.GetOrigin())
    assert np.allclose(volume.direction, image.GetDirection())


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "spacings: 1.5 2 3",
        "spacings: 1.5 2 3\naxis mins: 5 6 7",
        "spacings: 1.5 2 3\naxismins: 5 6 7\ncenters: node node node",
        "spacings: 1.5 2 3\naxis mins: 5 6 7\ncenterings: cell cell cell",
        f"space: left-posterior-superior\n{DIRECTIONS}",
        f"space: right-anterior-superior\n{DIRECTIONS}",
        f"space: left-anterior-superior\n{DIRECTIONS}",
        f"Space: RAS\n{DIRECTIONS}",
        f"space: LAS\n{DIRECTIONS}",
        f"space: scanner-xyz\n{DIRECTIONS}",
        f"space dimension: 3\n{DIRECTIONS}",
        "space: LPS\nspace directions: ( 0, 1.5, 0) (2 ,0,0)  (0,0,3)",
        "kinds: domain space domain\nbyte skip: 0",
    ],
)
def test_grids_in_nrrd_headers(fields, tmp_path):
    assert_read_as_simpleitk_does(nrrd(tmp_path, fields))


@pytest.mark.parametrize("skip", [0, 10, -1])
def test_bytes_before_the_voxels_of_an_nrrd_file_are_skipped(skip, tmp_path):
    path = nrrd(tmp_path, f"byte skip: {skip}")
    content = path.read_bytes()
    start = len(content) - VALUES.nbytes
    path.write_bytes(content[:start] + b"x" * (10 if skip else 0) + content[start:])
    assert_read_as_simpleitk_does(path)


def test_headers_with_carriage_returns(tmp_path):
    path = nrrd(tmp_path, f"space: LPS\n{DIRECTIONS}")
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    path.write_bytes(header.replace(b"\n", b"\r\n") + b"\r\n\r\n" + voxels)
    assert_read_as_simpleitk_does(path)


@pytest.mark.parametrize("position", [0, 3])
@pytest.mark.parametrize("said_by", ["kinds", "directions"])
def test_the_axis_of_channels_may_be_anywhere_in_nrrd(position, said_by, tmp_path):
    channels = np.stack([VALUES, VALUES + 100])
    stored = np.moveaxis(channels, 0, 3 - position)
    vectors = ["(1.5,0,0)", "(0,2,0)", "(0,0,3)"]
    vectors.insert(position, "none")
    kinds = ["domain"] * 3
    kinds.insert(position, "list")
    fields = {
        "directions": f"space: LPS\nspace directions: {' '.join(vectors)}",
        "kinds": f"kinds: {' '.join(kinds)}",
    }
    read = read_channels(nrrd(tmp_path, fields[said_by], np.ascontiguousarray(stored)))
    assert np.array_equal([channel.values for channel in read], channels)
    assert read[1].spacing == ((3, 2, 1.5) if said_by == "directions" else (1, 1, 1))


def test_big_endian_voxels(tmp_path):
    assert_read_as_simpleitk_does(nrrd(tmp_path, "", VALUES.astype(">i2")))
    big = metaimage(tmp_path, "BinaryDataByteOrderMSB = True", VALUES.astype(">i2"))
    assert_read_as_simpleitk_does(big)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("line skip: 1", "skipping 1 lines"),
        ("byte skip: -2", "skipping 0 lines and -2 bytes"),
        ("space: RAS\nspacings: 1 2 3", "not the directions"),
        ("spacings: 1 2", "spacing of every axis"),
        ("kinds: list list domain", "2 of the 3 axes"),
        ("space directions: (1,0,0) (0,1) (0,0,0,0,1)", "space directions"),
        ("spacings: -1 2 3", "spacing must be positive"),
    ],
)
def test_nrrd_headers_that_cannot_be_followed_are_refused(fields, text, tmp_path):
    with pytest.raises(DataError, match=text):
        read_volume(nrrd(tmp_path, fields))


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "ElementSpacing = 1.5 2 3\nOffset = 5 6 7\nTransformMatrix = 0 1 0 -1 0 0 0 0 1",
        "ElementSize = 1.5 2 3\nPosition = 5 6 7\nOrientation = 0 0.6 0.8 0 -0.8 0.6 1 0 0",
        "ElementSize = 9 9 9\nElementSpacing = 1.5 2 3\nOrigin = 5 6 7",
        "Rotation = 0 1 0 1 0 0 0 0 1\nAnatomicalOrientation = LPS",
        "ElementByteOrderMSB = False\nCompressedData = False",
    ],
)
def test_grids_in_metaimage_headers(fields, tmp_path):
    assert_read_as_simpleitk_does(metaimage(tmp_path, fields))


@pytest.mark.parametrize("skip", [7, -1])
def test_bytes_before_the_voxels_of_a_metaimage_file_are_skipped(skip, tmp_path):
    path = metaimage(tmp_path, f"HeaderSize = {skip}", file="voxels.raw")
    (tmp_path / "voxels.raw").write_bytes(b"seven b" + VALUES.tobytes())
    assert_read_as_simpleitk_does(path)


def test_a_long_of_metaimage_has_four_bytes(tmp_path):
    path = metaimage(tmp_path, "", VALUES.astype("<i4"))
    path.write_bytes(path.read_bytes().replace(b"MET_SHORT", b"MET_LONG"))
    assert np.array_equal(read_volume(path).values, VALUES)


def test_voxels_in_a_folder_below_the_header_are_read(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "voxels.raw").write_bytes(VALUES.tobytes())
    assert_read_as_simpleitk_does(metaimage(tmp_path, "", file="raw/voxels.raw"))
