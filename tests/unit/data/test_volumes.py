"""Volumes are read as SimpleITK reads them, and written so that it reads the same."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnmedseg.data.volumes import (
    Volume,
    decode_volume,
    displacement,
    geometry_difference,
    non_finite_count,
    read_channels,
    read_label_values,
    read_volume,
    volume_ending,
    write_nifti,
)
from nnmedseg.errors import DataError

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
REAL_FILES = sorted(
    path
    for name in ("MSD_Hippocampus", "CT_abdomen_sample", "pyradiomics_nrrd")
    for path in (SAMPLES / name).rglob("*")
    if volume_ending(path) and not path.name.startswith(".")
)
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def rotation(seed: int) -> np.ndarray:
    """Return a rotation by no simple angle, (3, 3)."""
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return directions


def image_of(values: np.ndarray, *, vector: bool = False) -> SimpleITK.Image:
    """Return an image on an oblique grid."""
    image = SimpleITK.GetImageFromArray(values, isVector=vector)
    image.SetSpacing((0.7, 1.25, 3.1))
    image.SetOrigin((-101.3, 55.125, 7.9))
    image.SetDirection(rotation(3).ravel().tolist())
    return image


def random_values(dtype: str, shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=shape) * 50).astype(dtype)


def assert_same(volume: Volume, image: SimpleITK.Image) -> None:
    values = SimpleITK.GetArrayFromImage(image)
    assert volume.values.dtype == values.dtype
    assert np.array_equal(volume.values, values)
    assert np.allclose(volume.spacing[::-1], image.GetSpacing(), rtol=1e-12)
    assert np.allclose(volume.origin, image.GetOrigin(), rtol=1e-12)
    assert np.allclose(volume.direction, image.GetDirection(), atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_files_of_simpleitk_are_read_as_it_reads_them(ending, compressed, dtype, tmp_path):
    path = tmp_path / f"volume{ending}"
    SimpleITK.WriteImage(image_of(random_values(dtype)), str(path), compressed)
    assert_same(read_volume(path), SimpleITK.ReadImage(str(path)))


@pytest.mark.skipif(not REAL_FILES, reason="sample data sets are not here")
def test_real_files_are_read_as_simpleitk_reads_them():
    for path in REAL_FILES:
        assert_same(read_volume(path), SimpleITK.ReadImage(str(path)))


@pytest.mark.skipif(not REAL_FILES, reason="sample data sets are not here")
def test_nnunet_reads_the_same_from_a_real_file_and_from_its_copy(tmp_path):
    copy = tmp_path / "copy.nii.gz"
    for path in REAL_FILES[::10]:
        write_nifti(read_volume(path), copy)
        values, properties = SimpleITKIO().read_images([str(path)])
        copied_values, copied_properties = SimpleITKIO().read_images([str(copy)])
        assert np.array_equal(values, copied_values)
        assert np.allclose(properties["spacing"], copied_properties["spacing"], rtol=1e-6)
        for name, value in properties["sitk_stuff"].items():
            assert np.allclose(value, copied_properties["sitk_stuff"][name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_simpleitk_reads_what_is_written(dtype, tmp_path):
    image = image_of(random_values(dtype))
    z, y, x = image.GetSpacing()[::-1]
    values = SimpleITK.GetArrayFromImage(image)
    path = tmp_path / "volume.nii.gz"
    write_nifti(Volume(values, (z, y, x), image.GetOrigin(), image.GetDirection()), path)
    written = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written), values)
    assert SimpleITK.GetArrayFromImage(written).dtype == values.dtype
    assert np.allclose(written.GetSpacing(), (x, y, z), rtol=1e-7)
    assert np.allclose(written.GetOrigin(), image.GetOrigin(), rtol=1e-7)
    assert np.allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)


def test_both_transforms_of_a_written_file_agree(tmp_path):
    path = tmp_path / "volume.nii.gz"
    direction = tuple(rotation(5).ravel().tolist())
    write_nifti(Volume(random_values("i2"), (2.5, 0.8, 0.7), (1, -2, 3), direction), path)
    header = nibabel.load(path).header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 1
    assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"


def test_writing_is_reproducible_and_exact_on_views(tmp_path):
    values = random_values("f4")[::-1, :, ::2]
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(Volume(values, (1, 1, 1)), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").values, values)


def test_booleans_are_written_as_small_numbers(tmp_path):
    write_nifti(Volume(random_values("f4") > 0, (1, 1, 1)), tmp_path / "mask.nii.gz")
    values = read_volume(tmp_path / "mask.nii.gz").values
    assert values.dtype == np.uint8
    assert np.array_equal(values, random_values("f4") > 0)


def test_a_volume_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="complex"):
        write_nifti(Volume(np.zeros((2, 2, 2), complex), (1, 1, 1)), tmp_path / "volume.nii.gz")
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        write_nifti(Volume(np.zeros((2, 2)), (1, 1, 1)), tmp_path / "volume.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_components_of_a_voxel_are_channels(ending, tmp_path):
    values = random_values("f4", (4, 5, 6, 3))
    path = tmp_path / f"volume{ending}"
    image = image_of(values, vector=True)
    SimpleITK.WriteImage(image, str(path))
    channels = read_channels(path)
    assert len(channels) == 3
    for index, channel in enumerate(channels):
        assert np.array_equal(channel.values, values[..., index])
        assert np.allclose(channel.direction, image.GetDirection(), atol=1e-6)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_the_fourth_dimension_counts_channels(ending, tmp_path):
    values = random_values("i2", (2, 4, 5, 6))
    path = tmp_path / f"volume{ending}"
    parts = [SimpleITK.GetImageFromArray(part) for part in values]
    SimpleITK.WriteImage(SimpleITK.JoinSeries(parts), str(path))
    channels = read_channels(path)
    assert np.array_equal([channel.values for channel in channels], values)
    with pytest.raises(DataError, match="6 x 5 x 4 x 2, or 2 channels"):
        read_volume(path)


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 1, 1)])
def test_dimensions_of_one_are_no_channels(shape, tmp_path):
    values = random_values("i2", shape)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "volume.nii")
    assert np.array_equal(read_volume(tmp_path / "volume.nii").values, values.reshape(6, 5, 4).T)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_a_slice_is_a_volume_of_one(ending, tmp_path):
    values = random_values("i2", (5, 6))
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.5, 2))
    SimpleITK.WriteImage(image, str(tmp_path / f"slice{ending}"))
    volume = read_volume(tmp_path / f"slice{ending}")
    assert np.array_equal(volume.values, values[None])
    assert volume.spacing == (1, 2, 0.5)


def test_a_slice_needs_no_distance_to_others(tmp_path):
    image = nibabel.Nifti1Image(random_values("i2", (6, 5)), np.diag([0.5, 2, 1, 1]))
    content = bytearray(image.to_bytes())
    content[88:92] = bytes(4)  # its spacing along z, as some programs leave it
    volume = decode_volume(bytes(content), tmp_path / "slice.nii")[0]
    assert volume.spacing == (1, 2, 0.5)


@pytest.mark.parametrize(("slope", "offset"), [(0.25, 0), (2, -1024), (1, 10)])
def test_the_scale_of_a_nifti_file_is_applied(slope, offset, tmp_path):
    path = tmp_path / "volume.nii"
    nibabel.Nifti1Image(random_values("i2").T, np.diag([2, 3, 4, 1])).to_filename(path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, offset], "<f4").tobytes()
    path.write_bytes(content)
    volume = read_volume(path)
    assert volume.values.dtype == np.float32
    assert np.array_equal(volume.values, random_values("i2") * np.float32(slope) + offset)
    assert_same(volume, SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_nifti_file_without_a_scale_keeps_its_type(slope, tmp_path):
    path = tmp_path / "volume.nii"
    nibabel.Nifti1Image(random_values("i2").T, np.eye(4)).to_filename(path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, 0], "<f4").tobytes()
    assert decode_volume(bytes(content), path)[0].values.dtype == np.int16


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_of_nifti_are_read(image_class, order, tmp_path):
    values = random_values("i2").T
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(np.dtype("i2").newbyteorder(order))
    image_class(values, np.diag([2, 3, 4, 1]), header).to_filename(tmp_path / "volume.nii")
    assert ((tmp_path / "volume.nii").read_bytes()[0] == 0) == (order == ">")
    volume = read_volume(tmp_path / "volume.nii")
    assert np.array_equal(volume.values, values.T)
    assert volume.values.dtype.isnative
    assert volume.spacing == (4, 3, 2)


@pytest.mark.parametrize(
    ("qform_code", "sform_code"), [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 4)]
)
def test_transforms_that_disagree_are_settled_as_simpleitk_does(qform_code, sform_code, tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(random_values("i2").T, None, header)
    qform, sform = np.eye(4), np.eye(4)
    qform[:3, :3] = rotation(1) * (0.5, 2, 3) * (1, 1, np.linalg.det(rotation(1)))
    sform[:3, :3] = rotation(2) * (0.5, 2, 3)
    qform[:3, 3], sform[:3, 3] = (1, 2, 3), (-4, 5, 6)
    image.set_qform(qform, qform_code)
    image.set_sform(sform, sform_code)
    image.header["pixdim"][1:4] = (0.5, 2, 3)
    path = tmp_path / "volume.nii"
    image.to_filename(path)
    assert_same(read_volume(path), SimpleITK.ReadImage(str(path)))


def test_a_name_that_hides_the_format_is_no_obstacle(tmp_path):
    values = random_values("i2")
    SimpleITK.WriteImage(image_of(values), str(tmp_path / "volume.nii.gz"))
    (tmp_path / "volume.nii.gz").rename(tmp_path / "packed.nii")
    assert np.array_equal(read_volume(tmp_path / "packed.nii").values, values)


@pytest.mark.parametrize("parts", [2, 3])
def test_gzip_files_of_several_parts_are_read(parts, tmp_path):
    path = tmp_path / "volume.nii"
    SimpleITK.WriteImage(image_of(random_values("i2")), str(path))
    content = path.read_bytes()
    cuts = np.linspace(0, len(content), parts + 1).astype(int)
    packed = b"".join(gzip.compress(content[a:b]) for a, b in pairwise(cuts))
    assert_same(decode_volume(packed, path)[0], SimpleITK.ReadImage(str(path)))
    assert_same(decode_volume(packed + bytes(100), path)[0], SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.NII.GZ", ".nii.gz"), ("b.nii", ".nii"), ("c.Mha", ".mha"), ("d.nhdr", ".nhdr"),
     ("e.nii.png", None), ("nii.gz", None), ("f.gz", None)],
)  # fmt: skip
def test_endings_of_volumes(name, ending):
    assert volume_ending(Path("folder.nii") / name) == ending


def test_grids_that_differ_are_told_apart():
    volume = Volume(np.zeros((2, 3, 4)), (3, 2, 1), (5, 6, 7))
    turned = tuple(np.diag([-1.0, -1.0, 1.0]).ravel().tolist())
    nearly = Volume(volume.values, (3, 2, 1 + 1e-6), (5, 6, 7 + 1e-6))
    assert geometry_difference(volume, nearly) is None
    others = {
        "sizes differ: 4 x 3 x 2 and 4 x 2 x 3": Volume(np.zeros((3, 2, 4)), (3, 2, 1), (5, 6, 7)),
        r"spacing.*\(1, 2, 3\) and \(1, 2, 3.1\)": Volume(volume.values, (3.1, 2, 1), (5, 6, 7)),
        "origin": Volume(volume.values, (3, 2, 1), (5, 6, 7.01)),
        "direction": Volume(volume.values, (3, 2, 1), (5, 6, 7), turned),
    }
    for text, other in others.items():
        assert re.search(text, geometry_difference(volume, other) or "no difference")


def test_non_finite_values_are_counted():
    assert non_finite_count(np.array([1, np.nan, np.inf, -np.inf, 0], np.float32)) == 3
    assert non_finite_count(np.array([1, 2])) == 0


@pytest.mark.parametrize("dtype", [*DTYPES, "?", "f2"])
def test_labels_come_from_any_number(dtype):
    values = np.array([[0, 1], [1, 0]], dtype)
    labels = read_label_values(values, "mask.nii.gz")
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, values)


def test_labels_with_the_noise_of_floats_are_rounded():
    labels = read_label_values(np.array([-1e-6, 0.9995, 300.0004]), "mask.nii.gz")
    assert labels.tolist() == [0, 1, 300]


@pytest.mark.parametrize(
    ("values", "text"),
    [([0, 0.5, 0.5, 1.25], r"3 of 4 values .*: 0.5, 1.25"), ([-1, 0], "1 of 2 .*: -1"),
     ([np.nan, 1], "1 of 2 .*: nan"), ([np.inf, 1], "1 of 2 .*: inf"), ([1e30], "1 of 1")],
)  # fmt: skip
def test_values_that_are_no_labels_are_named(values, text):
    with pytest.raises(DataError, match=text):
        read_label_values(np.array(values), "mask.nii.gz")
    with pytest.raises(DataError, match=r"no labels .*: -3"):
        read_label_values(np.array([0, -3]), "mask.nii.gz")


def test_displacement_is_the_distance_of_the_farthest_voxel():
    here = Volume(np.zeros((5, 1, 11)), (2.0, 1.0, 1.0))
    moved = replace(here, origin=(0.0, 3.0, 4.0))
    stretched = replace(here, spacing=(2.0, 1.0, 1.1))
    assert displacement(here, here) == 0
    assert displacement(here, moved) == pytest.approx(5.0)
    assert displacement(here, stretched) == pytest.approx(1.0)
