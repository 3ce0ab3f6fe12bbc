"""Single grey slices of DICOM series, and what they say of it, by GDCM through SimpleITK."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from nnmedseg.data.simple_itk import Header, read_header, read_values
from nnmedseg.errors import DataError

LARGEST_SLICE_PIXELS = 2**27
"""Pixels of the largest slice that is read, about 11,500 x 11,500."""

GDCM = "GDCMImageIO"
GREY = ("MONOCHROME1", "MONOCHROME2")
PREFIX = b"DICM"
LONGEST_META = 4096
TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"
PIXEL_DATA: dict[Literal["little", "big"], bytes] = {
    "little": rb"\xe0\x7f\x10\0(?:O[BW]\0\0)?.{4}",
    "big": rb"\x7f\xe0\0\x10(?:O[BW]\0\0)?.{4}",
}
"""The element that holds the pixels and, as its last four bytes, their length."""
ENDINGS = (".dcm", ".dicom", ".ima")
OBJECT_CLASS = b"\x02\x00\x02\x00UI"
NO_IMAGES = (
    "1.2.840.10008.1.3.10",  # directory
    *(
        f"1.2.840.10008.5.1.4.1.1.{group}."
        for group in ("9", "11", "66", "67", "88", "104", "481.2", "481.3", "481.4", "481.5")
    ),
)
"""How the classes of objects begin that are no images: waveforms, presentation states,
registrations and segmentations, reports, documents, doses, contours and plans."""
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


@dataclass(frozen=True)
class DicomSlice:
    """One slice of a DICOM series.

    Attributes:
        values: float32, (H, W), in the unit of the file's rescale slope and intercept, which is
            Hounsfield units for CT. Larger is brighter.
        spacing: Distance of neighbouring pixels in mm, (y, x), or ``None`` if the file has none.
        position: Position along the normal of the slice in mm, which is z for axial slices, or
            ``None`` if the file has none. It orders the slices of a series.
        instance: Number of the slice in its series, or ``None`` if the file has none.
        photometric: DICOM's photometric interpretation, as stored. Of ``MONOCHROME1`` (small is
            bright) GDCM inverts the values within the range of their bits.
        corner: Position of the first pixel in mm, (x, y, z) in LPS, or ``None`` if the file has
            none.
        axes: Direction along a row and along a column, each (x, y, z), or ``None``.
        thickness: Of the slice in mm, or ``None`` if the file has none.
    """

    values: np.ndarray
    spacing: tuple[float, float] | None
    position: float | None
    instance: int | None
    photometric: str
    corner: tuple[float, ...] | None = None
    axes: tuple[float, ...] | None = None
    thickness: float | None = None


class SeriesFacts(NamedTuple):
    """Which series a slice belongs to: its ``SeriesInstanceUID`` and ``SeriesNumber``."""

    uid: str
    number: int | None


def is_dicom(path: str | Path) -> bool:
    """Tell by its ending or its first bytes whether a file is meant to be DICOM."""
    if str(path).lower().endswith(ENDINGS):
        return True
    return _beginning(path)[128:132] == PREFIX


def holds_no_image(path: str | Path) -> bool:
    """Tell whether a DICOM file is of a class without pixels, such as a report."""
    return f"{_text_of(OBJECT_CLASS, _beginning(path))}.".startswith(NO_IMAGES)


def series_facts(path: str | Path) -> SeriesFacts | None:
    """Return which series a file belongs to, or ``None`` if its header cannot be read."""
    try:
        header = _Elements(read_header(path, GDCM))
    except RuntimeError:
        return None
    number = header.numbers("0020|0011")
    return SeriesFacts(header.text("0020|000e"), int(number[0]) if number else None)


def read_dicom_slice(path: str | Path) -> DicomSlice:
    """Read a DICOM file that holds one grey slice.

    Raises:
        DataError: The file cannot be read, is damaged, truncated or absurdly large, or does not
            hold exactly one slice of greys.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
    if not content:
        raise DataError("the file is empty", where=path, mend="copy or download it again")

    def check(header: Header) -> None:
        _refuse(header, path)
        if _is_uncompressed(content):
            _check_pixels(content, header, path)

    try:
        values, stored = read_values(path, GDCM, check)
    except RuntimeError as error:
        raise _unreadable(content, error, path) from error
    header = _Elements(stored)
    values = values.reshape(values.shape[-2:]).astype(np.float32)
    numbers = header.numbers("0028|0030") or header.numbers("0018|1164")
    instance = header.numbers("0020|0013")
    corner, axes = header.numbers("0020|0032"), header.numbers("0020|0037")
    thickness = header.numbers("0018|0050")
    return DicomSlice(
        values,
        (numbers[0], numbers[1]) if len(numbers) == 2 else None,
        header.position(),
        int(instance[0]) if instance else None,
        header.text("0028|0004"),
        tuple(corner) if len(corner) == 3 else None,
        tuple(axes) if len(axes) == 6 else None,
        thickness[0] if thickness and thickness[0] > 0 else None,
    )


class _Elements:
    """The elements of a DICOM file by group and number."""

    def __init__(self, header: Header):
        self._texts = header.metadata

    def text(self, key: str) -> str:
        """Return the text of an element, empty if it is not there."""
        return self._texts.get(key, "").strip(" \0")

    def numbers(self, key: str) -> list[float]:
        """Return the numbers of an element, none if it is not there or holds something else."""
        try:
            return [float(number) for number in self.text(key).split("\\")]
        except ValueError:
            return []

    def position(self) -> float | None:
        """Return the position along the normal of the slice in mm."""
        corner, axes = self.numbers("0020|0032"), self.numbers("0020|0037")
        if len(corner) == 3 and len(axes) == 6:
            return float(np.dot(np.cross(axes[:3], axes[3:]), corner))
        location = self.numbers("0020|1041")
        return location[0] if location else None


def _refuse(header: Header, path: str | Path) -> None:
    width, height, *further = header.size
    photometric = _Elements(header).text("0028|0004")
    if photometric not in GREY or header.components != 1:
        raise DataError(
            f"the slice is not grey, its photometric interpretation is {photometric or 'missing'}",
            where=path,
            mend="give the original slices of the series, not screenshots or overlays",
        )
    if any(count != 1 for count in further):
        raise DataError(
            f"the file holds {' x '.join(map(str, further))} slices, one is needed",
            where=path,
            mend="save each slice as a file of its own",
        )
    if width * height > LARGEST_SLICE_PIXELS:
        raise DataError(
            f"the header says {width} x {height} pixels; at most {LARGEST_SLICE_PIXELS:,} are read",
            where=path,
            mend="download it again if it is not that large",
        )


def _check_pixels(content: bytes, header: Header, path: str | Path) -> None:
    """Check that uncompressed pixels are as many as the header says, which GDCM does not."""
    width, height = header.size[:2]
    row = width * int((_Elements(header).numbers("0028|0100") or [8])[0]) // 8
    lengths = [
        int.from_bytes(content[found.end() - 4 : found.end()], order)
        for order, pattern in PIXEL_DATA.items()
        for found in re.finditer(pattern, content, re.DOTALL)
    ]
    # Less than a row may follow: some programs round the length up.
    if not any(row * height <= length < row * height + max(row, 2) for length in lengths):
        raise DataError(
            f"the header says {width} x {height} pixels, of {row * height:,} bytes, but the file "
            "holds another number of them",
            where=path,
            mend="copy or download it again",
        )


def _is_uncompressed(content: bytes) -> bool:
    name = _text_of(TRANSFER_SYNTAX, content)
    return not name or name in UNCOMPRESSED  # without one they are of the uncompressed default


def _text_of(element: bytes, content: bytes) -> str:
    """Return the text of an element of a file's first header, empty if there is none."""
    position = content.find(element, 132, LONGEST_META)
    if content[128:132] != PREFIX or position < 0:
        return ""
    position += len(element)
    length = int.from_bytes(content[position : position + 2], "little")
    return content[position + 2 : position + 2 + length].decode("ascii", "replace").strip(" \0")


def _beginning(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(LONGEST_META)
    except OSError:
        return b""


def _unreadable(content: bytes, error: Exception, path: str | Path) -> DataError:
    reason = str(error).strip().splitlines()[-1].rpartition("): ")[2]
    if content[128:132] != PREFIX:
        what = "this is not a DICOM file, or its beginning is damaged"
    else:
        what = f"the DICOM file is damaged or truncated ({reason})"
    return DataError(what, where=path, mend="copy or download it again")
