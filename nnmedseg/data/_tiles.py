"""Planes of small numbers in compressed tiles, of which a patch needs a few.

LZ4 halves photographs in which green was taken from red and blue. Zstandard, and differences to
the pixel to the left before it, make them smaller by another third, but take two to three times as
long to read. A tile of one value is kept as that value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import xxhash

TILE = (128, 256)
"""Height and width in pixels."""

LEVEL = 2
"""Of LZ4's thorough search: a tenth smaller than its quick one, at half of its speed."""

COLOURS = 3
"""How many channels there have to be for red and blue to be kept as differences to green."""

Window = tuple[slice, slice]


class Tile(NamedTuple):
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


def strips_of(shape: tuple[int, int], window: Window) -> Iterator[tuple[slice, list[Tile]]]:
    """Go through the rows of tiles that a window touches.

    Args:
        shape: Height and width of the plane.
        window: Bounds that lie within it.

    Returns:
        The rows of the window that each of them fills, and its tiles.
    """
    across = -(-shape[1] // TILE[1])
    columns = list(_cuts(shape[1], TILE[1], window[1]))
    for row, height, inside_y, target_y in _cuts(shape[0], TILE[0], window[0]):
        tiles = [
            Tile(row * across + column, (height, width), (inside_y, inside_x), (target_y, target_x))
            for column, width, inside_x, target_x in columns
        ]
        yield target_y, tiles


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
    tile = tile.copy()
    if _is_colour(tile):
        tile[::2] -= tile[1]
    encoded = imagecodecs.lz4_encode(tile.data, level=LEVEL, hc=True)  # type: ignore[arg-type]
    return bytes(encoded)


def decode(content: memoryview, tile: npt.NDArray[np.integer]) -> None:
    """Decompress into a contiguous ``tile`` of the shape and type of the one that was encoded.

    One that holds a single value is no longer than that, and is not compressed.
    """
    flat = tile.reshape(-1).view(np.uint8)
    imagecodecs.lz4_decode(content, out=flat)  # type: ignore[arg-type]
    if _is_colour(tile):
        tile[::2] += tile[1]


def _is_colour(tile: npt.NDArray[np.integer]) -> bool:
    return tile.dtype == np.uint8 and len(tile) == COLOURS


def checksum(content: bytes | memoryview) -> int:
    """Return 32 bits of a hash that is quick beside decompression."""
    return xxhash.xxh3_64_intdigest(content) & 0xFFFFFFFF
