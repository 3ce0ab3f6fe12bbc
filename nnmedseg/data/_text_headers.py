"""What NRRD and MetaImage share: a text header, and voxels behind it or in a file beside it.

SimpleITK reads both, but of a damaged zlib stream in a MetaImage file it returns wrong voxels
without a word, and it does not look at gzip's checksum. So voxels are decoded here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnmedseg.data._inflate import inflate
from nnmedseg.data._volume import check_length, damaged, native, refuse_absurd_sizes
from nnmedseg.errors import DataError

LONGEST_HEADER = 2**20


@dataclass(frozen=True)
class Voxels:
    """How the voxels of a file are stored.

    Attributes:
        sizes: Voxels along each axis, the fastest first.
        channel_axis: Which of them counts channels, if any does.
        dtype: Type and byte order of the numbers.
        compressed: They are a gzip or zlib stream.
        skipped: Bytes before them; -1 if they are the last bytes of the file.
        file: Name of the file that holds them, relative to the header's folder, or ``None`` if
            they follow the header.
    """

    sizes: Sequence[int]
    channel_axis: int | None
    dtype: np.dtype
    compressed: bool
    skipped: int
    file: str | None


def header_lines(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield each line of a header with the position of the byte after it."""
    start = 0
    while start < min(len(content), LONGEST_HEADER):
        end = content.find(b"\n", start, LONGEST_HEADER)
        end = len(content) if end < 0 else end
        yield content[start:end].decode("latin-1").rstrip("\r"), end + 1
        start = end + 1


def numbers(text: str, name: str, path: str | Path) -> list[float]:
    """Return the numbers in a header's field, which are divided by blanks or commas.

    Raises:
        DataError: There is something else.
    """
    try:
        return [float(number) for number in text.replace(",", " ").split()]
    except ValueError as error:
        raise damaged(f"{name}: {text!r} in the header is no list of numbers", path) from error


def whole_numbers(text: str, name: str, path: str | Path) -> list[int]:
    """Return the whole numbers in a header's field; otherwise as ``numbers``."""
    values = numbers(text, name, path)
    if not all(value.is_integer() for value in values):
        raise damaged(f"{name}: {text!r} in the header are no whole numbers", path)
    return [int(value) for value in values]


def spatial_axes(voxels: Voxels, path: str | Path) -> list[int]:
    """Return which axes of the file are x, y and z (z is missing in a single slice).

    Raises:
        DataError: There are more than three, or fewer than two.
    """
    axes = [axis for axis in range(len(voxels.sizes)) if axis != voxels.channel_axis]
    while len(axes) > 3 and voxels.sizes[axes[-1]] == 1:
        axes.pop()
    if not 2 <= len(axes) <= 3:
        raise DataError(
            f"the volume has {len(axes)} dimensions ({' x '.join(map(str, voxels.sizes))}), three "
            "for space and one for channels are read",
            where=path,
            mend="save the volumes that it holds as files of their own",
        )
    return axes


def read_voxels(voxels: Voxels, following: bytes | memoryview, path: str | Path) -> np.ndarray:
    """Read what a header describes; ``following`` is what the file holds after the header.

    Returns:
        (C, Z, Y, X).

    Raises:
        DataError: Voxels are missing, damaged or absurdly many.
    """
    refuse_absurd_sizes(voxels.sizes, path)
    axes = spatial_axes(voxels, path)
    size = math.prod(voxels.sizes) * voxels.dtype.itemsize
    content: bytes | memoryview = following
    if voxels.file is not None:
        content = _file_beside(voxels.file, path)
    start = voxels.skipped
    if start < 0:
        start = 0 if voxels.compressed else max(0, len(content) - size)
    content = memoryview(content)[start:]
    if voxels.compressed:
        stored: np.ndarray = inflate(content, size, path)
    else:
        check_length(len(content), size, path)
        stored = np.frombuffer(content, np.uint8, size)
    values = native(stored.view(voxels.dtype)).reshape(voxels.sizes[::-1])
    shape = [voxels.sizes[axis] for axis in axes[::-1]]
    if voxels.channel_axis is not None:
        values = np.moveaxis(values, len(voxels.sizes) - 1 - voxels.channel_axis, 0)
    values = values.reshape(-1, *([1] if len(shape) == 2 else []), *shape)
    return np.ascontiguousarray(values)


def _file_beside(name: str, path: str | Path) -> bytes:
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(
            f"the header names a file outside of its folder: {name}",
            where=path,
            mend="put the file with the voxels beside the header and write its name into it",
        )
    try:
        return (Path(path).parent / relative).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the name is none
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the file with the voxels, {name}, cannot be read: {reason}",
            where=path,
            mend="put it beside the header; the header alone is no volume",
        ) from error
