"""Finding and reading the images of a folder."""

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.cases import InputCase, find_cases
from nnmedseg.inference.loading import load_natural

RGB = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def write(path, pixels=RGB):
    Image.fromarray(pixels).save(path)
    return path


def names(folder, channels=3, pictures=True):
    return [case.name for case in find_cases(folder, channels, pictures=pictures)]


def test_all_formats_are_found(tmp_path):
    for ending in ("png", "jpg", "bmp", "tif"):
        write(tmp_path / f"{ending}.{ending}")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(RGB[None, ..., 0]), str(tmp_path / "n.nii.gz"))
    assert names(tmp_path) == ["bmp", "jpg", "n", "png", "tif"]


def test_the_channel_number_is_optional(tmp_path):
    write(tmp_path / "plain.png")
    write(tmp_path / "numbered_0000.png")
    assert names(tmp_path) == ["numbered", "plain"]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("")
    write(tmp_path / "._a.png")
    assert names(tmp_path) == ["a"]


def test_one_image_may_be_given_instead_of_a_folder(tmp_path):
    assert names(write(tmp_path / "a.png")) == ["a"]


def test_two_images_with_one_name_are_refused(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "a.bmp")
    with pytest.raises(UserError, match=r"'a'.*a\.bmp and .*a\.png"):
        names(tmp_path)


def test_channels_of_a_volume_are_grouped_in_order(tmp_path):
    for channel in (1, 0):
        (tmp_path / f"case_{channel:04d}.nii.gz").write_bytes(b"")
    (case,) = find_cases(tmp_path, 2, pictures=False)
    assert [path.name for path in case.files] == ["case_0000.nii.gz", "case_0001.nii.gz"]


def test_a_folder_without_images_is_a_user_error(tmp_path):
    with pytest.raises(NotFoundError, match="holds no images"):
        names(tmp_path)


def test_a_missing_folder_is_a_user_error(tmp_path):
    with pytest.raises(NotFoundError, match="no such image folder"):
        names(tmp_path / "nowhere")


def test_colours_come_first_and_keep_their_values(tmp_path):
    case = InputCase("a", (write(tmp_path / "a.png"),))
    image = load_natural(case, 3).image
    assert image.shape == (3, 1, 2, 4)
    assert np.array_equal(image[:, 0].transpose(1, 2, 0), RGB)


def test_a_grey_image_is_repeated_for_three_channels(tmp_path):
    case = InputCase("a", (write(tmp_path / "a.png", RGB[..., 0]),))
    assert np.array_equal(load_natural(case, 3).image[2, 0], RGB[..., 0])


def test_a_nifti_volume_gives_slices_and_keeps_its_geometry(tmp_path):
    volume = SimpleITK.GetImageFromArray(np.ones((5, 2, 4), np.float32))
    volume.SetSpacing((0.5, 0.5, 3))
    SimpleITK.WriteImage(volume, str(tmp_path / "v.nii.gz"))
    loaded = load_natural(InputCase("v", (tmp_path / "v.nii.gz",)), 3)
    assert loaded.image.shape == (3, 5, 2, 4)
    assert loaded.geometry is not None
    assert loaded.geometry.spacing == (0.5, 0.5, 3)


def test_a_flat_nifti_gives_one_slice(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(RGB[..., 0]), str(tmp_path / "f.nii.gz"))
    assert load_natural(InputCase("f", (tmp_path / "f.nii.gz",)), 1).image.shape == (1, 1, 2, 4)


def test_a_truncated_nifti_is_refused(tmp_path):
    path = tmp_path / "v.nii"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((5, 20, 40), np.float32)), str(path))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="truncated"):
        load_natural(InputCase("v", (path,)), 3)


def test_a_truncated_jpeg_is_refused(tmp_path):
    path = write(tmp_path / "a.jpg", np.tile(RGB, (50, 50, 1)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError):
        load_natural(InputCase("a", (path,)), 3)
