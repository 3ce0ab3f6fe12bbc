"""Finding and reading the images of a folder."""

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.inputs.cases import InputCase, find_cases
from nnmedseg.inference.inputs.loading import load_natural

from ..data.dicom_files import oblique_image, write_series, write_slice

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


def test_several_sources_are_one_list(tmp_path):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.png")
    sources = [tmp_path / "folder", write(tmp_path / "b.png")]
    assert names(sources) == ["a", "b"]


def test_one_name_in_two_folders_is_refused_naming_both(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.png")
    with pytest.raises(UserError, match=r"'a'.*one.a\.png and .*two.a\.png"):
        names([tmp_path / "one", tmp_path / "two"])


def test_two_files_for_one_channel_are_refused_naming_both(tmp_path):
    for ending in ("nii.gz", "nrrd"):
        (tmp_path / f"a_0001.{ending}").write_bytes(b"")
    with pytest.raises(UserError, match=r"a_0001\.nii\.gz and .*a_0001\.nrrd"):
        names(tmp_path, channels=2, pictures=False)


def test_a_text_list_is_relative_to_its_folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("b", "a"):
        write(tmp_path / "images" / f"{name}.png")
    (tmp_path / "list.txt").write_text(f"images/b.png\n\n{tmp_path}/images/a.png\n")
    cases = find_cases(tmp_path / "list.txt", 3, pictures=True)
    assert [case.name for case in cases] == ["b", "a"]
    assert all(case.files[0].is_file() for case in cases)


def test_a_json_list_names_the_files_of_each_channel(tmp_path):
    for name in ("t1", "t2"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    (tmp_path / "list.json").write_text('[["t1.nii.gz", "t2.nii.gz"]]')
    (case,) = find_cases(tmp_path / "list.json", 2, pictures=False)
    assert case.name == "t1"
    assert case.files == (tmp_path / "t1.nii.gz", tmp_path / "t2.nii.gz")


def test_a_json_list_of_paths_is_grouped_like_a_folder(tmp_path):
    for channel in (1, 0):
        (tmp_path / f"case_{channel:04d}.nii.gz").write_bytes(b"")
    (tmp_path / "list.json").write_text('["case_0001.nii.gz", "case_0000.nii.gz"]')
    (case,) = find_cases(tmp_path / "list.json", 2, pictures=False)
    assert [path.name for path in case.files] == ["case_0000.nii.gz", "case_0001.nii.gz"]


def test_a_file_of_a_list_that_is_not_there_fails_alone(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    missing = find_cases(tmp_path / "list.txt", 3, pictures=True)[1]
    with pytest.raises(DataError, match="No such file"):
        load_natural(missing, 3)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]", "[[]]", "[[1]]"])
def test_a_damaged_list_is_refused(tmp_path, content):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(DataError, match="list"):
        names(tmp_path / "list.json")


@pytest.mark.parametrize("ending", ["", ".dcm", ".5"])
def test_a_folder_of_slices_is_a_case(tmp_path, ending):
    for path in write_series(oblique_image(), tmp_path / "scan"):
        path.rename(path.with_suffix(ending))
    (case,) = find_cases(tmp_path / "scan", 1, pictures=False)
    assert case.name == "scan"
    assert len(case.files) == 6
    assert case.series == (case.files,)


def test_each_folder_of_slices_is_a_case(tmp_path):
    write_series(oblique_image(), tmp_path / "b")
    (tmp_path / "a").mkdir()
    write_series(oblique_image(), tmp_path / "a" / "portal")
    write(tmp_path / "c.png")
    assert sorted(names(tmp_path, channels=1)) == ["a_portal", "b", "c"]


def test_series_of_one_folder_are_cases_by_their_numbers(tmp_path):
    folder = tmp_path / "scan"
    write_series(oblique_image(), folder)
    write_slice(oblique_image(), 0, folder / "x.dcm", **{"0020|000e": "1.9", "0020|0011": "7"})
    cases = find_cases(folder, 1, pictures=False)
    assert {case.name: len(case.files) for case in cases} == {"scan_series1": 6, "scan_series7": 1}


def test_series_with_one_number_are_told_apart_by_their_uid(tmp_path):
    folder = tmp_path / "scan"
    write_series(oblique_image(), folder)
    write_slice(oblique_image(), 0, folder / "x.dcm", **{"0020|000e": "1.9"})
    assert set(names(folder, channels=1)) == {"scan_1.2.3", "scan_1.9"}


def test_folders_of_slices_are_channels(tmp_path):
    for channel in (1, 0):
        write_series(oblique_image(), tmp_path / f"case_{channel:04d}")
    (case,) = find_cases(tmp_path, 2, pictures=False)
    assert case.name == "case"
    assert [files[0].parent.name for files in case.series] == ["case_0000", "case_0001"]


def test_an_empty_slice_belongs_to_its_series(tmp_path):
    write_series(oblique_image(), tmp_path / "scan")
    for path in (tmp_path / "scan").iterdir():
        path.rename(path.with_suffix(""))
    next((tmp_path / "scan").iterdir()).write_bytes(b"")
    (case,) = find_cases(tmp_path / "scan", 1, pictures=False)
    assert len(case.files) == 6


def test_folders_that_link_back_are_not_followed(tmp_path):
    write_series(oblique_image(), tmp_path / "scan")
    (tmp_path / "scan" / "back").symlink_to(tmp_path)
    assert names(tmp_path, channels=1) == ["scan"]


def test_a_single_slice_may_be_given(tmp_path):
    path = write_slice(oblique_image(), 0, tmp_path / "a.dcm")
    (case,) = find_cases(path, 1, pictures=False)
    assert (case.name, case.series) == ("a", ((path,),))
