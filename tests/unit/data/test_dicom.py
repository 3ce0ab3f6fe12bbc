"""DICOM slices in Hounsfield units, with what orders them, and damage that GDCM passes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnmedseg.data.slices import read_dicom_slice
from nnmedseg.errors import DataError

HOUNSFIELD = np.random.default_rng(1).integers(-1024, 2000, (12, 10)).astype(np.int16)
ROWS = b"(\0\x10\0\2\0\0\0"
COLUMNS = b"(\0\x11\0\2\0\0\0"
PIXELS = b"\xe0\x7f\x10\0"


def dicom(folder: Path, values: np.ndarray = HOUNSFIELD, **options: str) -> Path:
    """Write a CT slice whose stored values are the given ones plus 1024."""
    image = SimpleITK.GetImageFromArray(values[None])
    image.SetSpacing((0.7, 0.8, 2.5))
    elements = {"0008|0060": "CT", "0020|0013": "7", "0020|0032": "1\\2\\-30.5",
                "0020|0037": "1\\0\\0\\0\\1\\0", "0028|1052": "-1024",
                "0028|1053": "1"}  # fmt: skip
    for key, value in {**elements, **options}.items():
        image.SetMetaData(key, value)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(folder / "slice.dcm"))
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    return folder / "slice.dcm"


def compressed(folder: Path, compressor: str) -> Path:
    path = dicom(folder)
    image = SimpleITK.ReadImage(str(path))
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.Cast(image, SimpleITK.sitkInt16))
    return path


def refusal_of(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_dicom_slice(path)
    assert str(path) in str(raised.value)
    assert "ITK ERROR" not in str(raised.value)
    return raised.value.what


def test_values_are_in_hounsfield_units_with_their_place(tmp_path):
    read = read_dicom_slice(dicom(tmp_path))
    assert read.values.dtype == np.float32
    assert np.array_equal(read.values, HOUNSFIELD)
    assert read.spacing == (0.8, 0.7)
    assert read.position == -30.5
    assert read.instance == 7
    assert read.photometric == "MONOCHROME2"


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression_changes_nothing(compressor, tmp_path):
    path = compressed(tmp_path, compressor)
    assert len(path.read_bytes().split(PIXELS)[-1]) != HOUNSFIELD.nbytes
    assert np.array_equal(read_dicom_slice(path).values, HOUNSFIELD)


def test_small_is_bright_is_inverted(tmp_path):
    path = dicom(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    read = read_dicom_slice(path)
    assert read.photometric == "MONOCHROME1"
    assert np.array_equal(read.values, read.values.max() - (HOUNSFIELD - HOUNSFIELD.min()))


def test_the_position_is_along_the_normal_of_the_slice(tmp_path):
    path = dicom(tmp_path, **{"0020|0032": "11\\2\\3", "0020|0037": "0\\1\\0\\0\\0\\-1"})
    assert read_dicom_slice(path).position == -11


def test_what_a_file_does_not_say_is_none(tmp_path):
    path = dicom(tmp_path)
    content = path.read_bytes()
    for element in (b" \0\x13\0", b" \0\x32\0", b" \0\x37\0", b"(\0\x30\0"):
        assert content.count(element) == 1
        content = content.replace(element, element[:2] + b"\xf1\xff")
    path.write_bytes(content)
    read = read_dicom_slice(path)
    assert (read.spacing, read.position, read.instance) == (None, None, None)


def test_truncated_files_are_refused(tmp_path):
    path = dicom(tmp_path)
    content = path.read_bytes()
    for kept in (len(content) - 1, len(content) - 100, len(content) - 240, 600, 400, 140):
        assert "damaged" in refusal_of(content[:kept], path)


@pytest.mark.parametrize(
    ("rows", "columns", "text"),
    [(13, 10, "10 x 13 pixels"), (11, 10, "10 x 11"), (12, 11, "11 x 12"), (12, 9, "9 x 12"),
     (65535, 65535, "at most 134,217,728"), (8000, 8000, "8000 x 8000"), (0, 10, "damaged")],
)  # fmt: skip
def test_a_header_that_disagrees_with_its_pixels_is_refused(rows, columns, text, tmp_path):
    path = dicom(tmp_path)
    content = bytearray(path.read_bytes())
    for element, size in ((ROWS, rows), (COLUMNS, columns)):
        position = content.index(element) + len(element)
        content[position : position + 2] = size.to_bytes(2, "little")
    assert text in refusal_of(content, path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "slice.dcm"
    assert refusal_of(b"", path) == "the file is empty"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(5000), b"text"):
        assert "not a DICOM file" in refusal_of(content, path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_dicom_slice(path)


def test_one_number_for_a_pixel_that_is_no_grey_is_refused(tmp_path):
    path = dicom(tmp_path)
    content = path.read_bytes().replace(b"MONOCHROME2 ", b"UNKNOWN     ")
    assert "photometric interpretation is UNKNOWN" in refusal_of(content, path)


def test_colours_and_stacks_are_refused(tmp_path):
    path = tmp_path / "slice.dcm"
    colours = SimpleITK.GetImageFromArray(np.zeros((1, 6, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(path))
    with pytest.raises(DataError, match="not grey, its photometric interpretation is RGB"):
        read_dicom_slice(path)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 6, 5), np.uint8)), str(path))
    with pytest.raises(DataError, match="holds 3 slices"):
        read_dicom_slice(path)
