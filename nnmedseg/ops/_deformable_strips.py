# ruff: noqa: PLR0917 - numba inlines functions, and has no keyword-only arguments
"""Where the taps of a deformable 3x3 convolution read the map, for its numba kernels.

This is found for 16 successive pixels of a map at a time, a strip. What is known of the taps of a
strip lies tap by tap, 16 pixels each, so a step of the computation takes 16 positions at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnmedseg.ops._compiled import jit
from nnmedseg.ops._simd import (
    LANES,
    add,
    filled,
    floor,
    load,
    maximum,
    minimum,
    multiply,
    store,
    store_places,
    subtract,
    within,
)

TAPS = 9

CORNER = TAPS * LANES
"""Numbers of a strip that concern one of the four pixels around each position."""

_ZERO, _ONE, _NAN = np.float32(0), np.float32(1), np.float32(np.nan)


class Sizes(NamedTuple):
    """Height, width and channels (a multiple of 16) of the maps."""

    height: int
    width: int
    channels: int


class Offsets(NamedTuple):
    """Offsets ``(B, 18, H, W)``: the data, flat, and the steps along each axis."""

    data: Any
    sample: int
    channel: int
    row: int
    column: int


class Strip(NamedTuple):
    """Where the taps of 16 pixels read.

    A position of which no pixel around it is in the map, or that is not a number, found none;
    what else is known of it means nothing.

    Attributes:
        rows, columns: Of the pixels ``(16,)``.
        moves: Offsets ``(18, 16)``; not a number beyond the part's last pixel.
        found: How many of the four pixels around the position are in the map ``(9, 16)``.
        down, right: How far the position is from the upper left one of them ``(9, 16)``.
        inside: One for each of them that is in the map, else zero; first the upper left ones of
            all taps, then the upper right, lower left and lower right ones ``(4, 9, 16)``.
        places: Their numbers, row by row; of a pixel outside, that of the nearest in the map.
        weights: What the interpolation multiplies them by, zero outside the map.
    """

    rows: Any
    columns: Any
    moves: Any
    found: Any
    down: Any
    right: Any
    inside: Any
    places: Any
    weights: Any


@jit
def new_strip():
    """A strip that nothing is known of."""
    rows, columns = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    moves, found = np.empty(2 * CORNER, np.float32), np.empty(CORNER, np.float32)
    down, right = np.empty(CORNER, np.float32), np.empty(CORNER, np.float32)
    inside, weights = np.empty(4 * CORNER, np.float32), np.empty(4 * CORNER, np.float32)
    places = np.empty(4 * CORNER, np.int32)
    return Strip(rows, columns, moves, found, down, right, inside, places, weights)


@jit
def _find_pixels(rows, columns, width, first):
    """Set rows and columns of the 16 pixels from ``first`` on, below the map after its last."""
    row, column = first // width, first % width
    for lane in range(LANES):
        rows[lane], columns[lane] = row, column
        column += 1
        if column == width:
            row, column = row + 1, 0


@jit
def _origin(rows, columns, lane, offsets, sample):
    """The place of a pixel's first offset."""
    row, column = np.intp(rows[lane]), np.intp(columns[lane])
    return sample * offsets.sample + row * offsets.row + column * offsets.column


@jit
def _read_offsets(offsets, sample, rows, columns, count, moves):
    """Set the moves of the first ``count`` pixels; the others get no position."""
    for lane in range(count):
        origin = _origin(rows, columns, lane, offsets, sample)
        for move in range(2 * TAPS):
            moves[move * LANES + lane] = offsets.data[origin + move * offsets.channel]
    for lane in range(count, LANES):
        for move in range(2 * TAPS):
            moves[move * LANES + lane] = _NAN


@jit
def write_offsets(offsets, sample, rows, columns, count, moves):
    """Write moves ``(18, 16)`` the other way round."""
    for lane in range(count):
        origin = _origin(rows, columns, lane, offsets, sample)
        for move in range(2 * TAPS):
            offsets.data[origin + move * offsets.channel] = moves[move * LANES + lane]


@jit
def _along_axis(position, size):
    """The pixels before and after positions along an axis.

    Returns:
        For both, the pixel, or if it is outside the nearest in the map, and one where it is in
        the map, else zero; last, how far the position is from the first.
    """
    last = filled(np.float32(size - 1))
    before = floor(position)
    after = add(before, filled(_ONE))
    # The maximum with what is not a number is zero: so these are pixels in any case.
    first = minimum(maximum(before, filled(_ZERO)), last)
    second = minimum(maximum(after, filled(_ZERO)), last)
    has_first, has_second = within(before, filled(_ZERO), last), within(after, filled(_ZERO), last)
    return first, has_first, second, has_second, subtract(position, before)


@jit
def _set_corners(strip, q, row, has_row, row_weight, columns, width):
    """Set what is known of the left and right pixels in one of the two rows."""
    left, has_left, right, has_right, across = columns
    left_weight = multiply(has_left, subtract(filled(_ONE), across))
    store_places(strip.places, q, row, left, width)
    store_places(strip.places, q + CORNER, row, right, width)
    store(strip.weights, q, multiply(row_weight, left_weight))
    store(strip.weights, q + CORNER, multiply(row_weight, multiply(has_right, across)))
    store(strip.inside, q, multiply(has_row, has_left))
    store(strip.inside, q + CORNER, multiply(has_row, has_right))


@jit
def locate(strip, sizes, offsets, sample, first, count):
    """Set all of a strip, from its first pixel and the number of its pixels on."""
    _find_pixels(strip.rows, strip.columns, sizes.width, first)
    _read_offsets(offsets, sample, strip.rows, strip.columns, count, strip.moves)
    width = np.int32(sizes.width)
    for tap in range(TAPS):
        q = tap * LANES
        row = add(load(strip.rows, 0), filled(np.float32(tap // 3 - 1)))
        column = add(load(strip.columns, 0), filled(np.float32(tap % 3 - 1)))
        rows = _along_axis(add(row, load(strip.moves, 2 * q)), sizes.height)
        columns = _along_axis(add(column, load(strip.moves, 2 * q + LANES)), sizes.width)
        top, has_top, bottom, has_bottom, down = rows
        top_weight = multiply(has_top, subtract(filled(_ONE), down))
        _set_corners(strip, q, top, has_top, top_weight, columns, width)
        bottom_weight = multiply(has_bottom, down)
        _set_corners(strip, q + 2 * CORNER, bottom, has_bottom, bottom_weight, columns, width)
        store(strip.found, q, multiply(add(has_top, has_bottom), add(columns[1], columns[3])))
        store(strip.down, q, down)
        store(strip.right, q, columns[4])


@jit
def place(strip, q, corner, origin, channels):
    """The place in the maps of a corner's first channel."""
    return origin + np.intp(strip.places[q + corner * CORNER]) * channels
