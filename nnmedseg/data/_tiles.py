"""Planes of bytes in tiles that can be read on their own, and read quickly.

A tile holds the colours and the labels of a part of an image, because a patch needs both. LZ4
halves photographs in which green was taken from red and blue. Zstandard makes them smaller by
another third but takes twice as long to read. Planes that LZ4 hardly shortens are kept as they
are, which costs nothing to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import xxhash

TILE = (128, 256)
"""Height and width in pixels."""

LEVEL = 3
"""Of LZ4's thorough search, whose result is smaller and quicker to read than its quick one's."""

LEAST_GAIN = 0.7
"""To which share LZ4's quick search has to shorten a plane, for it to be compressed."""

COLOURS = 3
"""How many channels there have to be for red and blue to be kept as differences to green."""

Bytes = npt.NDArray[np.uint8]
Window = tuple[slice, slice]


class Tile(NamedTuple):
    """What a tile and a window of the image have in common.

    Attributes:
        shape: Height and width of the tile.
        inside: Of the tile.
        target: The same pixels, counted from the corner of the window.
    """

    shape: tuple[int, int]
    inside: Window
    target: Window


class Strip(NamedTuple):
    """What a row of tiles and a window of the image have in common.

    Attributes:
        first: Number of its first tile, counted row by row.
        rows: Of the window.
        tiles: From left to right.
    """

    first: int
    rows: slice
    tiles: list[Tile]


def strips_of(shape: tuple[int, int], window: Window) -> Iterator[Strip]:
    """Go through the rows of tiles that a window touches.

    Args:
        shape: Height and width of the image.
        window: Bounds that lie within it.
    """
    across = -(-shape[1] // TILE[1])
    columns = list(_cuts(shape[1], TILE[1], window[1]))
    for row, height, inside_y, target_y in _cuts(shape[0], TILE[0], window[0]):
        tiles = [
            Tile((height, width), (inside_y, inside_x), (target_y, target_x))
            for _, width, inside_x, target_x in columns
        ]
        if tiles:
            yield Strip(row * across + columns[0][0], target_y, tiles)


def _cuts(length: int, tile: int, window: slice) -> Iterator[tuple[int, int, slice, slice]]:
    """Go through the tiles along one axis: number, size, pixels of the tile and of the window."""
    if window.start >= window.stop:
        return
    for number in range(window.start // tile, -(-window.stop // tile)):
        start = number * tile
        size = min(tile, length - start)
        first, last = max(window.start - start, 0), min(window.stop - start, size)
        shift = start - window.start
        yield number, size, slice(first, last), slice(first + shift, last + shift)


def encode(planes: Bytes, channels: int) -> bytes:
    """Compress a tile.

    Args:
        planes: ``(P, h, w)``, are changed; colours first.
        channels: How many of them are colours.

    Returns:
        Which planes are kept as they are, a byte of 0 or 1 for each, those planes, and the others.
    """
    if channels == COLOURS:
        planes[:COLOURS:2] -= planes[1]
    kept = np.array([n < channels and _is_hard(plane) for n, plane in enumerate(planes)])
    others = planes[~kept]
    compressed = b""
    if len(others):
        compressed = bytes(imagecodecs.lz4_encode(others.tobytes(), level=LEVEL, hc=True))
    return kept.tobytes() + planes[kept].tobytes() + compressed


def _is_hard(plane: Bytes) -> bool:
    return len(imagecodecs.lz4_encode(plane.tobytes())) > LEAST_GAIN * plane.size


def decode(
    content: memoryview, tile: Tile, count: int, channels: int, buffer: Bytes
) -> list[Bytes]:
    """Decompress the part of a tile that a window needs.

    Args:
        content: As `encode` returns it.
        tile: Its shape and the part.
        count: How many planes it has.
        channels: How many of them are colours.
        buffer: Memory for all planes of a tile.

    Returns:
        The part of each plane, views of ``buffer`` and ``content``; colours first.
    """
    height, width = tile.shape
    kept = content[:count]
    start = count + sum(kept) * height * width
    asis = np.frombuffer(content[count:start], np.uint8).reshape(-1, height, width)
    others = buffer[: (count - len(asis)) * height * width]
    if len(others):
        imagecodecs.lz4_decode(content[start:], out=others)  # type: ignore[arg-type]
    others = others.reshape(-1, height, width)[:, tile.inside[0], tile.inside[1]]
    asis = asis[:, tile.inside[0], tile.inside[1]]
    sources = (iter(others), iter(asis))
    planes = [next(sources[is_kept]) for is_kept in kept]
    return _with_green(planes) if channels == COLOURS else planes


def _with_green(planes: Sequence[Bytes]) -> list[Bytes]:
    """Add green to red and blue."""
    red, green, blue, *labels = planes
    return [_sum(red, green), green, _sum(blue, green), *labels]


def _sum(difference: Bytes, green: Bytes) -> Bytes:
    return np.add(difference, green, out=difference if difference.flags.writeable else None)


def checksum(content: bytes | memoryview) -> int:
    """Return 32 bits of a hash that is quick beside decompression."""
    return xxhash.xxh3_64_intdigest(content) & 0xFFFFFFFF
