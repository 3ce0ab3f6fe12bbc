"""DICOM series become the volume that they were written from."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from nnmedseg.data.dicom_series import group_by_series, read_series
from nnmedseg.errors import DataError

from .dicom_files import ORIGIN, SPACING, oblique_image, rotation, write_series, write_slice


def reason(files):
    with pytest.raises(DataError) as raised:
        read_series(files)
    assert str(files[0].parent) in str(raised.value)
    return raised.value.what


def test_a_series_is_the_volume_that_it_was_written_from(tmp_path):
    image = oblique_image()
    volume = read_series(sorted(write_series(image, tmp_path)))
    assert volume.values.dtype == np.float32
    assert np.array_equal(volume.values, SimpleITK.GetArrayFromImage(image))
    assert volume.spacing == pytest.approx(SPACING[::-1])
    assert volume.origin == pytest.approx(ORIGIN)
    assert volume.direction == pytest.approx(rotation().ravel())


def test_a_series_lies_where_simpleitk_reads_it(tmp_path):
    volume = read_series(write_series(oblique_image(), tmp_path))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(volume.values, SimpleITK.GetArrayFromImage(image))
    assert volume.spacing[::-1] == pytest.approx(image.GetSpacing())
    assert volume.origin == pytest.approx(image.GetOrigin())
    assert volume.direction == pytest.approx(image.GetDirection())


def test_a_single_slice_is_as_thick_as_it_says(tmp_path):
    volume = read_series([write_slice(oblique_image(), 2, tmp_path / "a.dcm")])
    assert volume.values.shape == (1, 9, 11)
    assert volume.spacing == pytest.approx(SPACING[::-1])


def test_positions_with_one_decimal_are_even_enough(tmp_path):
    image = oblique_image()
    image.SetSpacing((0.7, 1.25, 0.625))
    image.SetDirection(np.eye(3).ravel().tolist())
    image.SetOrigin((0, 0, 0))
    places = {index: f"0\\0\\{index * 0.625:.1f}" for index in range(6)}
    files = [
        write_slice(image, index, tmp_path / f"{index}.dcm", **{"0020|0032": place})
        for index, place in places.items()
    ]
    assert read_series(files).spacing[0] == pytest.approx(0.62)


def test_a_missing_slice_is_noticed(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    assert "missing or uneven: they are 3.1 to 6.2 mm apart" in reason(files[:2] + files[3:])


def test_two_phases_in_one_series_are_refused(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    copy = write_slice(oblique_image(), 0, tmp_path / "copy.dcm")
    assert "same place" in reason([*files, copy])


def test_a_tilted_gantry_is_refused(tmp_path):
    image = oblique_image()
    image.SetDirection(np.eye(3).ravel().tolist())
    files = [
        write_slice(
            image, index, tmp_path / f"{index}.dcm", **{"0020|0032": f"0\\{index}\\{index}"}
        )
        for index in range(6)
    ]
    assert "tilted gantry" in reason(files)


def test_slices_of_another_direction_are_refused(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    write_slice(oblique_image(), 3, files[3], **{"0020|0037": "1\\0\\0\\0\\1\\0"})
    assert "different directions" in reason(files)


def test_slices_of_another_spacing_are_refused(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    image = oblique_image()
    image.SetSpacing((2, 2, 3.1))
    write_slice(image, 3, files[3])
    assert "distance of their pixels" in reason(files)


def test_slices_of_another_size_are_refused(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    write_slice(oblique_image((6, 9, 12)), 3, files[3])
    assert "differ in size" in reason(files)


def test_series_of_one_folder_are_told_apart(tmp_path):
    one = write_series(oblique_image(), tmp_path)
    other = [
        write_slice(
            oblique_image(), index, tmp_path / f"other{index}.dcm",
            **{"0020|000e": "1.2.4", "0020|0011": "2"},
        )
        for index in range(3)
    ]  # fmt: skip
    found = {series.uid: series for series in group_by_series([*one, *other])}
    assert set(found["1.2.3"].files) == set(one)
    assert set(found["1.2.4"].files) == set(other)
    assert (found["1.2.3"].number, found["1.2.4"].number) == (1, 2)


def test_reports_and_contours_are_passed_over(tmp_path):
    files = write_series(oblique_image(), tmp_path)
    content = files[0].read_bytes()
    report = tmp_path / "report.dcm"
    image_class, report_class = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.88"
    assert image_class in content
    report.write_bytes(content.replace(image_class, report_class))
    (series,) = group_by_series([*files, report])
    assert set(series.files) == set(files)


@pytest.mark.parametrize("length", [0, 100, 300, 700, -2])
def test_a_damaged_slice_makes_its_series_unreadable(tmp_path, length):
    files = write_series(oblique_image(), tmp_path)
    files[2].write_bytes(files[2].read_bytes()[:length])
    (series,) = group_by_series(files)
    with pytest.raises(DataError, match=files[2].name):
        read_series(series.files)
