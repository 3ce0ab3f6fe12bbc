"""Every picture mode and volume format becomes what a model was trained on."""

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

from nnmedseg.errors import DataError
from nnmedseg.inference.inputs.cases import InputCase, find_cases
from nnmedseg.inference.inputs.loading import load_natural, load_with_reader

from ..data.dicom_files import oblique_image, write_series

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RGB[..., 0]
READERS = (SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient)
FORMATS = ("nii", "nrrd", "nhdr", "mha", "mhd")


def saved(image, path, mode=None, **options):
    picture = Image.fromarray(image)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def load(path, channels=3):
    return load_natural(InputCase("a", (path,)), channels)


def colours(loaded):
    return np.moveaxis(loaded.image[:, 0], 0, -1)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_colours_keep_their_8_bits(tmp_path, ending):
    loaded = load(saved(RGB, tmp_path / f"a.{ending}"))
    assert loaded.image.dtype == np.uint8
    assert np.array_equal(colours(loaded), RGB)
    assert loaded.notes == ()


def test_jpeg_is_read(tmp_path):
    path = saved(np.full((20, 30, 3), 90, np.uint8), tmp_path / "a.jpg")
    assert np.array_equal(colours(load(path)), np.full((20, 30, 3), 90))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_alpha_is_dropped(tmp_path, ending):
    loaded = load(saved(np.dstack([RGB, GREY]), tmp_path / f"a.{ending}"))
    assert np.array_equal(colours(loaded), RGB)
    assert loaded.notes == ("alpha was dropped",)


def test_grey_is_repeated(tmp_path):
    loaded = load(saved(GREY, tmp_path / "a.png"))
    assert np.array_equal(colours(loaded), np.dstack([GREY] * 3))
    assert loaded.notes == ("grey was repeated for 3 channels",)


def test_grey_with_alpha_is_grey(tmp_path):
    loaded = load(saved(GREY, tmp_path / "a.png", "LA"), channels=1)
    assert np.array_equal(loaded.image[0, 0], GREY)
    assert loaded.notes == ("alpha was dropped",)


def test_a_palette_gives_its_colours(tmp_path):
    few = np.repeat(np.repeat(RGB[:4, :4], 5, axis=0), 5, axis=1)
    loaded = load(saved(few, tmp_path / "a.png", "P"))
    expected = np.array(Image.open(tmp_path / "a.png").convert("RGB"))
    assert np.array_equal(colours(loaded), expected)
    assert loaded.notes == ("the palette was replaced by its colours",)


def test_one_bit_is_black_and_white(tmp_path):
    path = saved(GREY, tmp_path / "a.png", "1")
    loaded = load(path, channels=1)
    assert np.array_equal(loaded.image[0, 0], np.array(Image.open(path)) * 255)
    assert loaded.notes == ("1 bit was brought to 8: black is 0 and white is 255",)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_keep_the_8_highest(tmp_path, ending):
    deep = GREY.astype(np.uint16) << 8
    if ending == "png":
        Image.fromarray(deep).save(tmp_path / "a.png")
    else:
        tifffile.imwrite(tmp_path / "a.tif", deep)
    loaded = load(tmp_path / f"a.{ending}", channels=1)
    used = int(deep.max()).bit_length()
    assert np.array_equal(loaded.image[0, 0], deep >> (used - 8))
    assert loaded.notes == ("16 bits were brought to 8",)


def test_colours_are_averaged_for_a_grey_model(tmp_path):
    loaded = load(saved(RGB, tmp_path / "a.png"), channels=1)
    assert np.array_equal(loaded.image[0, 0], np.rint(RGB.mean(axis=2)))
    assert loaded.notes == ("colours were averaged for 1 channel",)


def test_what_is_done_is_noted_in_order(tmp_path):
    loaded = load(saved(GREY, tmp_path / "a.png", "LA"))
    assert loaded.notes == ("alpha was dropped", "grey was repeated for 3 channels")


def test_pictures_for_models_of_more_bits_are_read_as_nnunet_reads_them(tmp_path):
    deep = GREY.astype(np.uint16) * 200
    tifffile.imwrite(tmp_path / "a.tif", deep)
    case = InputCase("a", (tmp_path / "a.tif",))
    assert np.array_equal(load_with_reader(case, NaturalImage2DIO(), 1).image[0, 0], deep)


def test_alpha_is_dropped_for_models_of_more_bits(tmp_path):
    path = saved(np.dstack([RGB, GREY]), tmp_path / "a.png")
    loaded = load_with_reader(InputCase("a", (path,)), NaturalImage2DIO(), 3)
    assert np.array_equal(colours(loaded), RGB)
    assert loaded.notes == ("alpha was dropped",)


def write_as(ending, folder):
    """Write the same oblique volume in one of the formats and return its case."""
    image = oblique_image()
    if ending == "dicom":
        write_series(image, folder / "case")
    else:
        SimpleITK.WriteImage(image, str(folder / f"case.{ending}"))
    (case,) = find_cases(folder, 1, pictures=False)
    return case


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", [*FORMATS[1:], "dicom"])
def test_every_format_gives_the_same_as_nifti(tmp_path, reader, ending):
    for name in ("nifti", "other"):
        (tmp_path / name).mkdir()
    expected = load_with_reader(write_as("nii.gz", tmp_path / "nifti"), reader(), 1)
    loaded = load_with_reader(write_as(ending, tmp_path / "other"), reader(), 1)
    assert np.array_equal(loaded.image, expected.image)
    assert loaded.properties["spacing"] == pytest.approx(expected.properties["spacing"])
    for kind in ("sitk_stuff", "nibabel_stuff"):
        for key, value in expected.properties.get(kind, {}).items():
            if isinstance(value, str):
                assert loaded.properties[kind][key] == value
            else:
                np.testing.assert_allclose(loaded.properties[kind][key], value, atol=1e-4)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_volumes_are_what_nnunets_reader_makes_of_them(tmp_path, ending):
    case = write_as(ending, tmp_path)
    image, properties = SimpleITKIO().read_images([str(case.files[0])])
    loaded = load_with_reader(case, SimpleITKIO(), 1)
    assert np.array_equal(loaded.image, image)
    np.testing.assert_allclose(loaded.properties["spacing"], properties["spacing"])


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "dicom"])
def test_slices_of_a_volume_are_images_of_their_own(tmp_path, ending):
    loaded = load_natural(write_as(ending, tmp_path), 3)
    values = SimpleITK.GetArrayFromImage(oblique_image())
    assert np.array_equal(loaded.image, np.stack([values] * 3))
    assert loaded.geometry is not None
    assert loaded.geometry.direction == pytest.approx(oblique_image().GetDirection(), abs=1e-6)


def test_models_of_tiff_volumes_take_other_volumes(tmp_path):
    loaded = load_with_reader(write_as("nrrd", tmp_path), Tiff3DIO(), 1)
    assert np.array_equal(loaded.image[0], SimpleITK.GetArrayFromImage(oblique_image()))


def truncated(ending, folder, share):
    """Cut a file of a format off and return its case."""
    if ending in ("png", "jpg", "bmp", "tif"):
        path = saved(RGB, folder / f"case.{ending}")
    else:
        case = write_as(ending, folder)
        path = case.files[len(case.files) // 2]
        path = path.with_suffix(".raw") if ending in ("nhdr", "mhd") else path
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    (case,) = find_cases(folder, 1, pictures=True)
    return case


@pytest.mark.parametrize("share", [0, 0.03, 0.5, 0.99])
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii.gz", *FORMATS, "dicom"])
def test_truncated_files_are_refused(tmp_path, ending, share):
    case = truncated(ending, tmp_path, share)
    with pytest.raises(DataError):
        load_natural(case, 3)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "dicom"])
def test_readers_get_no_truncated_files(tmp_path, ending, reader):
    case = truncated(ending, tmp_path, 0.7)
    with pytest.raises(DataError):
        load_with_reader(case, reader(), 1)


@pytest.mark.parametrize("reader", READERS)
def test_readers_get_no_truncated_files_with_a_scale(tmp_path, reader):
    image = nibabel.Nifti1Image(np.ones((9, 8, 7), np.int16), np.eye(4))
    image.header.set_slope_inter(2, 0)
    nibabel.save(image, tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:-100])
    with pytest.raises(DataError):
        load_with_reader(InputCase("a", (tmp_path / "a.nii",)), reader(), 1)


@pytest.mark.parametrize("ending", ["png", "nii.gz", "nii", "nrrd", "mha", "dcm", "tif", "jpg"])
@pytest.mark.parametrize("content", [b"no image", bytes(5000), b"\xff" * 5000])
def test_garbage_is_refused_whatever_its_name(tmp_path, ending, content):
    (tmp_path / f"a.{ending}").write_bytes(content)
    (case,) = find_cases(tmp_path, 1, pictures=True)
    with pytest.raises(DataError):
        load_natural(case, 3)
    with pytest.raises(DataError):
        load_with_reader(case, SimpleITKIO(), 1)


def test_a_missing_channel_is_an_error_of_its_case(tmp_path):
    case = write_as("nii.gz", tmp_path)
    with pytest.raises(DataError, match=r"has 1 channel\(s\), the model takes 2"):
        load_with_reader(case, SimpleITKIO(), 2)


def test_channels_on_different_grids_are_refused(tmp_path):
    image = oblique_image()
    SimpleITK.WriteImage(image, str(tmp_path / "a_0000.nrrd"))
    image.SetOrigin((0, 0, 0))
    SimpleITK.WriteImage(image, str(tmp_path / "a_0001.nrrd"))
    (case,) = find_cases(tmp_path, 2, pictures=False)
    with pytest.raises(DataError, match="different grids"):
        load_with_reader(case, SimpleITKIO(), 2)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    values = np.ones((3, 4, 5), np.float32)
    values[1, 2, 3] = np.nan
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(tmp_path / "a.nii.gz"))
    case = InputCase("a", (tmp_path / "a.nii.gz",))
    with pytest.raises(DataError, match="1 values that are not numbers"):
        load_with_reader(case, SimpleITKIO(), 1)
