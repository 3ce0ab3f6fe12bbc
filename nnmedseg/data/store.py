"""Preprocessed photographs of 8 bits as they are, normalised when a patch is cut out.

nnU-Net stores normalised images as 32-bit floats. Of a photograph with 8 bits those are 256
different numbers for each channel, so that the bytes say the same with a factor and a summand
beside them. One file holds a case:

========================  =========================================================================
``<8s3I``                 magic number; bytes of the next two, checksum of both
description               JSON: shapes, normalisation, nnU-Net's properties, classes
table                     size and checksum of each tile, ``uint32``
tiles                     of the colours, then of the labels
locations                 pixels of each class, ``int32``
========================  =========================================================================
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
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
    parts = [*tiles, positions]
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
    for part in _tiles.parts_of((height, width), (slice(0, height), slice(0, width))):
        yield _tiles.encode(planes[:, part.target[0], part.target[1]])


class StoredCase:
    """A case as it lies on the disk; nothing is decompressed before it is asked for.

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
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            description = self._read_description()
        except FileNotFoundError as error:
            raise self._damaged("it is missing") from error
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise self._damaged(error) from error
        channels, height, width = description["shape"]
        pixels = _tiles.count((height, width))
        scale, offset = (np.array(description[name], np.float32) for name in ("scale", "offset"))
        self.image = StoredImage(self, 0, (channels, 1, height, width), scale, offset)
        self.mask = StoredMask(self, pixels, (1, 1, height, width), np.dtype(description["labels"]))
        self.properties: dict[str, Any] = description["properties"]
        self.properties["class_locations"] = self._locations(
            description["classes"], (height, width)
        )

    def _read_description(self) -> dict[str, Any]:
        magic, size, table_size, checksum = _START.unpack_from(self._content)
        end = _START.size + size + table_size
        if magic != _MAGIC or _tiles.checksum(self._content[_START.size : end]) != checksum:
            raise ValueError("its beginning is not as it was written")
        table = np.frombuffer(self._content[end - table_size : end], "<u4").reshape(-1, 2)
        self._checksums = table[:, 1]
        self._ends = end + np.cumsum(table[:, 0], dtype=np.int64)
        self._starts = self._ends - table[:, 0]
        if self._ends[-1] != len(self._content):
            raise ValueError(f"it has {len(self._content)} of {self._ends[-1]} bytes")
        description = json.loads(bytes(self._content[_START.size : end - table_size]))
        if description["version"] != VERSION or tuple(description["tile"]) != _tiles.TILE:
            raise ValueError("another version of nnmedseg has written it")
        return description

    def _locations(
        self, classes: list[tuple[Any, int]], shape: tuple[int, int]
    ) -> dict[Key, Locations]:
        flat = np.frombuffer(self._part(-1), "<i4")
        found: dict[Key, Locations] = {}
        start = 0
        for key, count in classes:
            name = tuple(key) if isinstance(key, list) else key
            found[name] = Locations(flat[start : start + count], shape)
            start += count
        return found

    def _part(self, number: int) -> memoryview:
        content = self._content[self._starts[number] : self._ends[number]]
        if _tiles.checksum(content) != self._checksums[number]:
            raise self._damaged("some of its bytes are not as they were written")
        return content

    def read_tile(self, number: int, tile: npt.NDArray[np.integer]) -> None:
        """Decompress a tile into an array of its shape and type."""
        _tiles.decode(self._part(number), tile)

    def _damaged(self, reason: object) -> DataError:
        return DataError(
            f"a preprocessed case cannot be read: {reason}",
            where=self.path,
            mend="delete it and run nnmedseg_plan_and_preprocess again",
        )


class _StoredPlanes:
    """An array ``(C, 1, H, W)`` of which slices are read when they are asked for.

    Args:
        case: The file.
        first: Number of its first tile.
        shape: ``(C, 1, H, W)``.
        stored: Type of the tiles.
    """

    ndim = 4
    dtype: ClassVar[np.dtype[Any]]

    def __init__(
        self,
        case: StoredCase,
        first: int,
        shape: tuple[int, int, int, int],
        stored: np.dtype[Any],
    ):
        self.shape = shape
        self._case = case
        self._first = first
        self._stored = stored

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

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
        for part in _tiles.parts_of((height, width), window):
            shape = (channels, *part.shape)
            tile = buffer[: channels * part.shape[0] * part.shape[1]].reshape(shape)
            self._case.read_tile(self._first + part.number, tile)
            pixels[:, part.target[0], part.target[1]] = tile[:, part.inside[0], part.inside[1]]
        return pixels


class StoredImage(_StoredPlanes):
    """Colours, normalised as they are read."""

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        case: StoredCase,
        first: int,
        shape: tuple[int, int, int, int],
        scale: npt.NDArray[np.float32],
        offset: npt.NDArray[np.float32],
    ):
        super().__init__(case, first, shape, np.dtype(np.uint8))
        self._scale = scale
        self._offset = offset

    def _read(self, window: _tiles.Window) -> npt.NDArray[np.float32]:
        pixels = super()._read(window)
        # Channel by channel, while it is in the cache.
        for plane, scale, offset in zip(pixels, self._scale, self._offset, strict=True):
            np.multiply(plane, scale, out=plane)
            np.add(plane, offset, out=plane)
        return pixels


class StoredMask(_StoredPlanes):
    """Labels."""

    dtype = np.dtype(np.int16)
