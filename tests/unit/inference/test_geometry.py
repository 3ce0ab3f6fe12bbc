"""Masks lie where their images lie, whatever reads either."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnmedseg.data.volumes import read_volume
from nnmedseg.inference.inputs.cases import LoadedCase, find_cases
from nnmedseg.inference.inputs.geometry import Geometry, as_in_file, write_map
from nnmedseg.inference.inputs.loading import load_natural, load_with_reader

from ..data.dicom_files import oblique_image, rotation, write_series

READERS = (SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient)


def written(image, folder, ending):
    """Write an image in a format and return its case."""
    (folder / "in").mkdir(exist_ok=True)
    if ending == "dicom":
        write_series(image, folder / "in" / "case")
    else:
        SimpleITK.WriteImage(image, str(folder / "in" / f"case.{ending}"))
    (case,) = find_cases(folder / "in", 1, pictures=False)
    return case


def assert_same_grid(mask, image):
    assert mask.GetSize() == image.GetSize()
    assert mask.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-5)
    assert mask.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)
    assert mask.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-5)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha", "dicom"])
def test_a_map_lies_on_the_voxels_of_its_image(tmp_path, reader, ending):
    """The image itself, written as a map, is the image again."""
    image = oblique_image()
    loaded = load_with_reader(written(image, tmp_path, ending), reader(), 1)
    write_map(loaded.image[0], tmp_path / "map.nii.gz", loaded)
    mask = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    assert_same_grid(mask, image)
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask), SimpleITK.GetArrayFromImage(image))


@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("reader", READERS)
def test_turned_and_mirrored_axes_come_back(tmp_path, reader, turn):
    image = oblique_image()
    axes = np.roll(np.diag([-1.0, 1.0, -1.0]), turn, axis=0)
    image.SetDirection((axes * np.linalg.det(axes)).ravel().tolist())
    loaded = load_with_reader(written(image, tmp_path, "nii.gz"), reader(), 1)
    write_map(loaded.image[0], tmp_path / "map.nii.gz", loaded)
    mask = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    assert_same_grid(mask, image)
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask), SimpleITK.GetArrayFromImage(image))


@pytest.mark.parametrize("reader", READERS)
def test_both_transforms_are_set_and_agree_with_the_input(tmp_path, reader):
    case = written(oblique_image(), tmp_path, "nii.gz")
    loaded = load_with_reader(case, reader(), 1)
    write_map(loaded.image[0], tmp_path / "map.nii.gz", loaded)
    header = nibabel.load(tmp_path / "map.nii.gz").header
    expected = nibabel.load(case.files[0]).affine
    for matrix, code in (header.get_qform(coded=True), header.get_sform(coded=True)):
        assert code > 0
        np.testing.assert_allclose(matrix, expected, atol=1e-4)


@pytest.mark.parametrize("reader", [NibabelIOWithReorient, SimpleITKIOWithReorient])
def test_probabilities_are_turned_like_masks(tmp_path, reader):
    loaded = load_with_reader(written(oblique_image(), tmp_path, "nii.gz"), reader(), 1)
    labels, geometry = as_in_file(loaded.image[0], loaded)
    stack, of_stack = as_in_file(np.stack([loaded.image[0], -loaded.image[0]]), loaded)
    assert np.array_equal(stack[0], labels)
    assert np.array_equal(stack[1], -labels)
    assert of_stack == geometry


def test_nibabels_reader_keeps_an_affine_that_is_sheared(tmp_path):
    affine = np.array([[1.0, 0.3, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    path = tmp_path / "case.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.int16), affine), path)
    (case,) = find_cases(path, 1, pictures=False)
    loaded = load_with_reader(case, NibabelIO(), 1)
    write_map(loaded.image[0].astype(np.uint8), tmp_path / "map.nii.gz", loaded)
    np.testing.assert_allclose(nibabel.load(tmp_path / "map.nii.gz").affine, affine, atol=1e-5)


@pytest.mark.parametrize("load", ["slices", "reader"])
def test_a_file_of_two_dimensions_gives_one_of_two(tmp_path, load):
    flat = oblique_image()[:, :, 0]
    image = SimpleITK.GetImageFromArray(SimpleITK.GetArrayFromImage(flat))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((3.0, 4.0))
    case = written(image, tmp_path, "nii.gz")
    loaded = load_natural(case, 1) if load == "slices" else load_with_reader(case, SimpleITKIO(), 1)
    write_map(loaded.image[0].astype(np.uint8), tmp_path / "map.nii.gz", loaded)
    assert_same_grid(SimpleITK.ReadImage(str(tmp_path / "map.nii.gz")), image)
    header = nibabel.load(tmp_path / "map.nii.gz").header
    assert header["qform_code"] > 0
    assert header["sform_code"] > 0


def test_slices_of_a_volume_keep_its_grid(tmp_path):
    image = oblique_image()
    loaded = load_natural(written(image, tmp_path, "nrrd"), 3)
    write_map(loaded.image[0], tmp_path / "map.nii.gz", loaded)
    assert_same_grid(SimpleITK.ReadImage(str(tmp_path / "map.nii.gz")), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_get_spacing_1(tmp_path, channels):
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "case.png")
    (case,) = find_cases(tmp_path, channels, pictures=True)
    loads = [load_natural(case, channels), load_with_reader(case, NaturalImage2DIO(), channels)]
    for loaded in loads:
        write_map(np.zeros((1, 20, 30), np.uint8), tmp_path / "map.nii.gz", loaded)
        mask = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
        assert mask.GetSize() == (30, 20, 1)
        assert mask.GetSpacing() == (1, 1, 1)
        assert mask.GetDirection() == pytest.approx(np.eye(3).ravel())


def test_masks_of_long_images_are_read_as_they_were_written(tmp_path):
    """A side of 40,000 pixels does not fit into the 16 bits of NIfTI-1."""
    labels = np.zeros((1, 3, 40_000), np.uint8)
    labels[0, 1, -5:] = 1
    loaded = LoadedCase(labels[None], {"spacing": (999, 1, 1)}, Geometry())
    write_map(labels, tmp_path / "map.nii.gz", loaded)
    mask = read_volume(tmp_path / "map.nii.gz")
    assert np.array_equal(mask.values, labels)
    assert mask.spacing == (1, 1, 1)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "map.nii.gz").dataobj).T, labels)


def test_tiff_volumes_have_the_spacing_of_the_file_beside_them(tmp_path):
    tifffile.imwrite(
        tmp_path / "case_0000.tif", np.zeros((4, 5, 6), np.uint8), photometric="minisblack"
    )
    (tmp_path / "case.json").write_text('{"spacing": [3, 2, 0.5]}')
    (case,) = find_cases(tmp_path / "case_0000.tif", 1, pictures=False)
    loaded = load_with_reader(case, Tiff3DIO(), 1)
    write_map(loaded.image[0], tmp_path / "map.nii.gz", loaded)
    assert SimpleITK.ReadImage(str(tmp_path / "map.nii.gz")).GetSpacing() == (0.5, 2, 3)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_numbers_keep_their_type(tmp_path, kind):
    loaded = load_with_reader(written(oblique_image(), tmp_path, "nii.gz"), SimpleITKIO(), 1)
    values = np.arange(loaded.image[0].size).reshape(loaded.image[0].shape).astype(kind)
    write_map(values, tmp_path / "map.nii.gz", loaded)
    stored = np.asanyarray(nibabel.load(tmp_path / "map.nii.gz").dataobj)
    assert stored.dtype == kind
    assert np.array_equal(stored.T, values)


def test_the_direction_is_no_identity():
    assert np.abs(rotation() - np.eye(3)).max() > 0.5
