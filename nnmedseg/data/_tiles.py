"""Planes of small numbers in compressed tiles, of which a patch needs a few.

Photographs lose half of their size where green is taken from red and blue, and from every number
the one to its left, before LZ4 looks for repetitions. Undoing that is a fifth of the time that
nnU-Net's store takes to decompress floats. Of stronger codecs Zstandard halves the size once more
but takes twice as long to read. A tile of one value is kept as that value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt
import xxhash

TILE = (128, 256)
"""Height and width in pixels."""

COLOURS = 3
"""How many channels there have to be for red and blue to be kept as differences to green."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Part:
    """What a tile and a window of the plane have in common.

    Attributes:
        number: Of the tile, row by row.
        shape: Height and width of the tile.
        inside: Of the tile.
        target: The same pixels, counted from the corner of the window.
    """

    number: int
    shape: tuple[int, int]
    inside: Window
    target: Window


def count(shape: tuple[int, int]) -> int:
    """Return how many tiles a plane has."""
    return -(-shape[0] // TILE[0]) * -(-shape[1] // TILE[1])


def parts_of(shape: tuple[int, int], window: Window) -> Iterator[Part]:
    """Go through the tiles of a plane that a window touches.

    Args:
        shape: Height and width of the plane.
        window: Bounds that lie within it.
    """
    across = -(-shape[1] // TILE[1])
    for row, height, inside_y, target_y in _cuts(shape[0], TILE[0], window[0]):
        for column, width, inside_x, target_x in _cuts(shape[1], TILE[1], window[1]):
            yield Part(
                row * across + column, (height, width), (inside_y, inside_x), (target_y, target_x)
            )


def _cuts(length: int, tile: int, window: slice) -> Iterator[tuple[int, int, slice, slice]]:
    if window.start >= window.stop:
        return
    for number in range(window.start // tile, -(-window.stop // tile)):
        start = number * tile
        size = min(tile, length - start)
        first, last = max(window.start - start, 0), min(window.stop - start, size)
        shift = start - window.start
        yield number, size, slice(first, last), slice(first + shift, last + shift)


def encode(tile: npt.NDArray[np.integer]) -> bytes:
    """Compress a tile ``(C, h, w)``: colours if it is uint8, else labels."""
    first = tile.flat[0]
    if first == tile.flat[-1] and (tile == first).all():
        return first.tobytes()
    tile = np.ascontiguousarray(tile)
    if tile.dtype == np.uint8:
        if len(tile) == COLOURS:
            tile = tile.copy()
            tile[::2] -= tile[1]
        tile = imagecodecs.delta_encode(tile, axis=-1)
    return bytes(imagecodecs.lz4_encode(tile.data, level=1))  # type: ignore[arg-type]


def decode(content: memoryview, tile: npt.NDArray[np.integer]) -> None:
    """Decompress into a contiguous ``tile`` of the shape and type of the one that was encoded."""
    if len(content) == tile.itemsize:
        tile[:] = np.frombuffer(content, tile.dtype)[0]
        return
    flat = tile.reshape(-1).view(np.uint8)
    imagecodecs.lz4_decode(content, out=flat)  # type: ignore[arg-type]
    if tile.dtype == np.uint8:
        imagecodecs.delta_decode(tile, axis=-1, out=tile)
        if len(tile) == COLOURS:
            tile[::2] += tile[1]


def checksum(content: bytes | memoryview) -> int:
    """Return 32 bits of a hash that is quick beside decompression."""
    return xxhash.xxh3_64_intdigest(content) & 0xFFFFFFFF
