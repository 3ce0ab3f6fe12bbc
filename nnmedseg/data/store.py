"""Preprocessed photographs of 8 bits as they are, normalised when a patch is cut out.

nnU-Net stores normalised images as 32-bit floats. Of a photograph with 8 bits those are 256
different numbers for each channel, so that the bytes say the same with a factor and a summand
beside them. One file holds a case:

========================  =========================================================================
``<8s3I``                 magic number; bytes of the next two, checksum of both
description               JSON: shapes, normalisation, nnU-Net's properties, classes
table                     size and checksum of the locations and of each tile, ``uint32``
locations                 pixels of each class, ``int32``
tiles                     colours and labels of 128 x 256 pixels each
========================  =========================================================================
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    labels = np.ascontiguousarray(labels, np.int8 if small else "<i2")
    as_bytes = np.moveaxis(labels.view(np.uint8).reshape(*labels.shape, -1), -1, 0)
    tiles = _encoded(colours, as_bytes)
    positions = b"".join(flat.astype("<i4").tobytes() for flat in locations.values())
    parts = [positions, *tiles]
    table = np.array([(len(part), _tiles.checksum(part)) for part in parts], "<u4").tobytes()
    description = json.dumps(
        {
            "version": VERSION,
            "shape": [len(colours) + len(as_bytes), *labels.shape],
            "tile": _tiles.TILE,
            "scale": normalisation.scale.tolist(),
            "offset": normalisation.offset.tolist(),
            "properties": properties,
            "classes": [[key, len(flat)] for key, flat in locations.items()],
        }
    ).encode()
    start = _START.pack(_MAGIC, len(description), len(table), _tiles.checksum(description + table))
    with Path(path).open("wb") as file:
        file.writelines([start, description, table, *parts])


def checksum_of(path: str | Path) -> int:
    """Return a checksum of everything that a case's file holds, without reading more than it.

    Raises:
        DataError: The file is truncated.
    """
    with Path(path).open("rb") as file:
        start = file.read(_START.size)
    if len(start) < _START.size:
        raise _damaged(path, f"it has only {len(start)} bytes")
    return int(_START.unpack(start)[3])


def _encoded(colours: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    height, width = colours.shape[1:]
    for strip in _tiles.strips_of((height, width), (slice(0, height), slice(0, width))):
        for tile in strip.tiles:
            rows, columns = tile.target
            planes = np.concatenate([colours[:, rows, columns], labels[:, rows, columns]])
            yield _tiles.encode(planes, len(colours))


class StoredCase:
    """A case as it lies on the disk; nothing is read before it is asked for.

    Args:
        path: A file that `write_case` has written.

    Attributes:
        properties: What nnU-Net keeps of a case, ``class_locations`` among it.

    Raises:
        DataError: It is missing, damaged or truncated.
    """

    def __init__(self, path: str | Path):
        self._file = _File(path)
        description = self._file.description
        self._planes, *size = description["shape"]
        self._size = (size[0], size[1])
        self._scale, self._offset = (
            [np.float32(value) for value in description[name]] for name in ("scale", "offset")
        )
        self._labels: tuple[_tiles.Window, npt.NDArray[np.int16]] | None = None
        self.properties: dict[str, Any] = dict(description["properties"])
        self.properties["class_locations"] = self._locations(description["classes"])

    # Arrays know the case and not the other way round, so that its file is closed with the last.
    @property
    def image(self) -> StoredArray:
        """Normalised intensities, float32 ``(C, 1, H, W)``."""
        return StoredArray(self._read_image, (len(self._scale), 1, *self._size), np.float32)

    @property
    def mask(self) -> StoredArray:
        """Labels, int16 ``(1, 1, H, W)``."""
        return StoredArray(self._read_mask, (1, 1, *self._size), np.int16)

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """By what the grey levels of each channel are multiplied."""
        return np.array(self._scale)

    def _read_image(self, window: _tiles.Window) -> npt.NDArray[np.float32]:
        """Return a part of the image ``(C, h, w)``, and keep the labels for whoever asks next."""
        image, labels = self._read(window)
        self._labels = (window, labels)
        return image

    def _read_mask(self, window: _tiles.Window) -> npt.NDArray[np.int16]:
        """Return a part of the labels ``(1, h, w)``."""
        (known, labels), self._labels = self._labels or (None, None), None
        return (self._read(window)[1] if known != window or labels is None else labels)[None]

    def _read(self, window: _tiles.Window) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
        channels = len(self._scale)
        shape = tuple(max(one.stop - one.start, 0) for one in window)
        image = np.empty((channels, *shape), np.float32)
        labels = np.empty(shape, np.int16)
        buffer = np.empty(self._planes * math.prod(_tiles.TILE), np.uint8)
        for strip in _tiles.strips_of(self._size, window):
            contents = self._file.parts(1 + strip.first, len(strip.tiles))
            for tile, content in zip(strip.tiles, contents, strict=True):
                planes = _tiles.decode(content, tile, self._planes, channels, buffer)
                for plane, values in zip(image, planes, strict=False):
                    plane[tile.target] = values
                labels[tile.target] = _as_labels(planes[channels:])
            # Strip by strip and channel by channel, while the pixels are in the cache.
            for plane, scale, offset in zip(image, self._scale, self._offset, strict=True):
                pixels = plane[strip.rows]
                np.multiply(pixels, scale, out=pixels)
                np.add(pixels, offset, out=pixels)
        return image, labels

    def _locations(self, classes: list[tuple[Any, int]]) -> dict[Key, Locations]:
        found: dict[Key, Locations] = {}
        start = 0
        for key, count in classes:
            name = tuple(key) if isinstance(key, list) else key
            read = partial(_read_locations, self._file, start, count)
            found[name] = Locations(read, count, self._size)
            start += count
        return found


def _read_locations(file: _File, start: int, count: int) -> Flat:
    return np.frombuffer(file.parts(0, 1)[0], "<i4")[start : start + count]


def _as_labels(planes: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int8 | np.int16]:
    """Return labels from their only byte, or from the low and the high one."""
    if len(planes) == 1:
        return planes[0].view(np.int8)
    low, high = planes
    return (low | high.astype(np.uint16) << 8).view(np.int16)


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
        self._checksums: list[int] = table[:, 1].tolist()
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

    def parts(self, first: int, count: int) -> list[memoryview]:
        """Read parts that lie one after the other.

        Raises:
            DataError: They are not as they were written.
        """
        bounds = self._bounds[first : first + count + 1]
        content = memoryview(self._read(bounds[0], bounds[-1] - bounds[0]))
        parts = [content[a - bounds[0] : b - bounds[0]] for a, b in pairwise(bounds)]
        for part, checksum in zip(parts, self._checksums[first:], strict=False):
            if _tiles.checksum(part) != checksum:
                raise self._damaged("some of its bytes are not as they were written")
        return parts

    def _damaged(self, reason: object) -> DataError:
        return _damaged(self._path, reason)


def _damaged(path: str | Path, reason: object) -> DataError:
    return DataError(
        f"a preprocessed case cannot be read: {reason}",
        where=path,
        mend="delete it and run nnmedseg_plan_and_preprocess again",
    )


class StoredArray:
    """An array ``(C, 1, H, W)`` of which slices are read when they are asked for.

    Args:
        read: Returns the part ``(C, h, w)`` inside of bounds.
        shape: ``(C, 1, H, W)``.
        dtype: Of the parts.
    """

    ndim = 4

    def __init__(
        self,
        read: Callable[[_tiles.Window], npt.NDArray[Any]],
        shape: tuple[int, int, int, int],
        dtype: npt.DTypeLike,
    ):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._read = read

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
