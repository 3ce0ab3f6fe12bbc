"""Preprocessed photographs of 8 bits as they are, normalised when a patch is cut out.

nnU-Net stores normalised images as 32-bit floats. Of a photograph with 8 bits those are 256
different numbers for each channel, so that the bytes say the same with a factor and a summand
beside them. One file holds a case:

========================  =========================================================================
``<8s3I``                 magic number; bytes of the next two, checksum of both
description               JSON: shapes, normalisation, nnU-Net's properties, classes
table                     size and checksum of the locations and of each tile, ``uint32``
locations                 pixels of each class, ``int32``
tiles                     of the colours, then of the labels
========================  =========================================================================
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nnmedseg.data import _tiles
from nnmedseg.data.class_locations import Flat, Key, Locations
from nnmedseg.data.intensities import Affine
from nnmedseg.errors import DataError

FILE_ENDING = ".uint8"
VERSION = 1
"""Of the format."""

FIRST_READ = 2**12
"""Bytes: the description and the table of most photographs."""

_MAGIC = b"nnmedseg"
_START = struct.Struct("<8s3I")


def write_case(
    path: str | Path,
    colours: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    *,
    normalisation: Affine,
    properties: Mapping[str, Any],
    locations: Mapping[Key, Flat],
) -> None:
    """Write a case.

    Args:
        path: The file.
        colours: ``(C, H, W)``.
        labels: ``(H, W)``, -1 outside of the image; 16 bits are enough.
        normalisation: Of the colours.
        properties: What nnU-Net's export needs, as JSON can hold it.
        locations: Positions of pixels of each class in ``labels.ravel()``.
    """
    small = labels.min() >= -128 and labels.max() <= 127
    labels = labels.astype(np.int8 if small else np.int16)
    tiles = [*_encoded(colours), *_encoded(labels[None])]
    positions = b"".join(flat.astype("<i4").tobytes() for flat in locations.values())
    parts = [positions, *tiles]
    table = np.array([(len(part), _tiles.checksum(part)) for part in parts], "<u4").tobytes()
    description = json.dumps(
        {
            "version": VERSION,
            "shape": colours.shape,
            "tile": _tiles.TILE,
            "labels": labels.dtype.name,
            "scale": normalisation.scale.tolist(),
            "offset": normalisation.offset.tolist(),
            "properties": properties,
            "classes": [[key, len(flat)] for key, flat in locations.items()],
        }
    ).encode()
    start = _START.pack(_MAGIC, len(description), len(table), _tiles.checksum(description + table))
    with Path(path).open("wb") as file:
        file.writelines([start, description, table, *parts])


def _encoded(planes: npt.NDArray[np.integer]) -> Iterator[bytes]:
    height, width = planes.shape[1:]
    for _, tiles in _tiles.strips_of((height, width), (slice(0, height), slice(0, width))):
        for tile in tiles:
            yield _tiles.encode(planes[:, tile.target[0], tile.target[1]])


class StoredCase:
    """A case as it lies on the disk; nothing is read before it is asked for.

    Args:
        path: A file that `write_case` has written.

    Attributes:
        image: Normalised intensities, float32 ``(C, 1, H, W)``.
        mask: Labels, int16 ``(1, 1, H, W)``.
        properties: What nnU-Net keeps of a case, ``class_locations`` among it.

    Raises:
        DataError: It is missing, damaged or truncated.
    """

    def __init__(self, path: str | Path):
        self._file = _File(path)
        description = self._file.description
        channels, height, width = description["shape"]
        scale, offset = (np.array(description[name], np.float32) for name in ("scale", "offset"))
        first = 1
        self.image = StoredImage(self._file, first, (channels, 1, height, width), scale, offset)
        first += _tiles.count((height, width))
        labels = np.dtype(description["labels"])
        self.mask = StoredMask(self._file, first, (1, 1, height, width), labels)
        self.properties: dict[str, Any] = description["properties"]
        self.properties["class_locations"] = self._locations(
            description["classes"], (height, width)
        )

    def _locations(
        self, classes: list[tuple[Any, int]], shape: tuple[int, int]
    ) -> dict[Key, Locations]:
        found: dict[Key, Locations] = {}
        start = 0
        for key, count in classes:
            name = tuple(key) if isinstance(key, list) else key
            found[name] = Locations(self._read_locations(start, count), count, shape)
            start += count
        return found

    def _read_locations(self, start: int, count: int) -> Callable[[], Flat]:
        return lambda: np.frombuffer(self._file.parts(0, 1)[0], "<i4")[start : start + count]


class _File:
    """The parts of a file, checked as they are read.

    They are read rather than mapped into memory: a patch needs some hundred pages, each of which
    would be fetched on its own, and a file that is truncated later on would end the process.
    """

    def __init__(self, path: str | Path):
        self._path = path
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self._read_beginning()
        except FileNotFoundError as error:
            raise self._damaged("it is missing") from error
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise self._damaged(error) from error

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _read_beginning(self) -> None:
        start = self._read(0, FIRST_READ)
        magic, size, table_size, checksum = _START.unpack_from(start)
        end = _START.size + size + table_size
        if magic == _MAGIC and end > len(start):
            start += self._read(len(start), end - len(start))
        if magic != _MAGIC or _tiles.checksum(start[_START.size : end]) != checksum:
            raise ValueError("its beginning is not as it was written")
        table = np.frombuffer(start[end - table_size : end], "<u4").reshape(-1, 2)
        self._checksums = table[:, 1].tolist()
        self._bounds = [end, *(end + np.cumsum(table[:, 0], dtype=np.int64)).tolist()]
        length = os.fstat(self._descriptor).st_size
        if self._bounds[-1] != length:
            raise ValueError(f"it has {length} of {self._bounds[-1]} bytes")
        self.description: dict[str, Any] = json.loads(start[_START.size : end - table_size])
        written = self.description["version"], tuple(self.description["tile"])
        if written != (VERSION, _tiles.TILE):
            raise ValueError("another version of nnmedseg has written it")

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, start)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return os.read(self._descriptor, size)

    def parts(self, first: int, last: int) -> list[memoryview]:
        """Read the parts from ``first`` up to ``last``, which is left out.

        Raises:
            DataError: They are not as they were written.
        """
        bounds = self._bounds[first : last + 1]
        content = memoryview(self._read(bounds[0], bounds[-1] - bounds[0]))
        parts = [content[a - bounds[0] : b - bounds[0]] for a, b in pairwise(bounds)]
        for part, checksum in zip(parts, self._checksums[first:last], strict=True):
            if _tiles.checksum(part) != checksum:
                raise self._damaged("some of its bytes are not as they were written")
        return parts

    def _damaged(self, reason: object) -> DataError:
        return DataError(
            f"a preprocessed case cannot be read: {reason}",
            where=self._path,
            mend="delete it and run nnmedseg_plan_and_preprocess again",
        )


class _StoredPlanes:
    """An array ``(C, 1, H, W)`` of which slices are read when they are asked for.

    Args:
        file: Where its tiles are.
        first: Which of the file's parts is its first tile.
        shape: ``(C, 1, H, W)``.
        stored: Type of the tiles.
    """

    ndim = 4
    dtype: ClassVar[np.dtype[Any]]

    def __init__(
        self,
        file: _File,
        first: int,
        shape: tuple[int, int, int, int],
        stored: np.dtype[Any],
    ):
        self.shape = shape
        self._file = file
        self._first = first
        self._stored = stored

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self[:],)  # another process has no use for the open file

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Return an array of its own, for any index that NumPy takes."""
        given = index if isinstance(index, tuple) else (index,)
        bounds = [*given, *[slice(None)] * (self.ndim - len(given))]
        if not all(isinstance(one, slice) and one.step in (None, 1) for one in bounds):
            return self[:][index]
        rows, columns = (
            slice(*one.indices(length))
            for one, length in zip(bounds[2:], self.shape[2:], strict=True)
        )
        return self._read((rows, columns))[bounds[0], None][:, bounds[1]]

    def _read(self, window: _tiles.Window) -> npt.NDArray[Any]:
        channels, _, height, width = self.shape
        rows, columns = (max(one.stop - one.start, 0) for one in window)
        pixels = np.empty((channels, rows, columns), self.dtype)
        buffer = np.empty(channels * _tiles.TILE[0] * _tiles.TILE[1], self._stored)
        for strip, tiles in _tiles.strips_of((height, width), window):
            first = self._first + tiles[0].number
            contents = self._file.parts(first, first + len(tiles))
            for tile, content in zip(tiles, contents, strict=True):
                target = pixels[:, tile.target[0], tile.target[1]]
                if len(content) == self._stored.itemsize:
                    target[:] = np.frombuffer(content, self._stored)
                    continue
                shape = (channels, *tile.shape)
                values = buffer[: math.prod(shape)].reshape(shape)
                _tiles.decode(content, values)
                target[:] = values[:, tile.inside[0], tile.inside[1]]
            self._finish(pixels[:, strip])
        return pixels

    def _finish(self, pixels: npt.NDArray[Any]) -> None:
        """Turn what is stored into what it means, in place, while it is in the cache."""


class StoredImage(_StoredPlanes):
    """Colours, normalised as they are read."""

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        file: _File,
        first: int,
        shape: tuple[int, int, int, int],
        scale: npt.NDArray[np.float32],
        offset: npt.NDArray[np.float32],
    ):
        super().__init__(file, first, shape, np.dtype(np.uint8))
        self._scale = scale
        self._offset = offset

    def _finish(self, pixels: npt.NDArray[np.float32]) -> None:
        for plane, scale, offset in zip(pixels, self._scale, self._offset, strict=True):
            np.multiply(plane, scale, out=plane)
            np.add(plane, offset, out=plane)


class StoredMask(_StoredPlanes):
    """Labels."""

    dtype = np.dtype(np.int16)
