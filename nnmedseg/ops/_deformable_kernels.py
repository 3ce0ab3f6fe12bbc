# ruff: noqa: PLR0917 - numba inlines functions, and has no keyword-only arguments
"""The deformable depthwise convolution and its gradients as numba kernels.

`_deformable_numba` calls them. Maps lie pixel by pixel, ``(B, H, W, C)``, and are flat; C is a
multiple of 16. A kernel takes 16 successive pixels at a time and finds where their taps read the
map, once for all channels; then it goes through the channels, 16 at a time. A position outside the
map, or one that is not a number, is passed over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnmedseg.ops._compiled import jit
from nnmedseg.ops._deformable_strips import CORNER, TAPS, locate, new_strip, place, write_offsets
from nnmedseg.ops._simd import (
    LANES,
    add,
    filled,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    totals,
)

_ZERO = np.float32(0)


class Part(NamedTuple):
    """The samples, pixels of them and channels of one task, without the ends.

    The first pixel is a multiple of 16, and so are the channels.
    """

    first_sample: int
    end_sample: int
    first_pixel: int
    end_pixel: int
    first_channel: int
    end_channel: int


class Given(NamedTuple):
    """What is convolved.

    Attributes:
        x: Maps ``(B, H, W, C)``.
        offsets: See `Offsets`.
        weight: Filters ``(9, C)``.
    """

    x: Any
    offsets: Any
    weight: Any


class Gradients(NamedTuple):
    """Where the gradients go.

    Attributes:
        x: Maps ``(B, H, W, C)``, zero at first.
        offsets: Summed over the part's channels; see `Offsets`.
        weight: ``(B, 9, C)`` in float64, zero at first.
    """

    x: Any
    offsets: Any
    weight: Any


class StripGradients(NamedTuple):
    """The gradients of a strip, until they are complete.

    Attributes:
        out: Of the output, as it comes in: maps ``(B, H, W, C)``.
        rows, columns: Of one tap's positions, in 16 channels that are not summed yet
            ``(16 pixels, 16)``.
        moves: Of the offsets ``(18, 16)``.
        weight: Of the filters ``(9, C)``.
    """

    out: Any
    rows: Any
    columns: Any
    moves: Any
    weight: Any


@jit
def _sampled(strip, q, x, origin, channels):
    """The map at a position: the sum of four pixels with their weights."""
    value = filled(_ZERO)
    for corner in range(4):
        pixel = load(x, place(strip, q, corner, origin, channels))
        value = multiply_add(filled(strip.weights[q + corner * CORNER]), pixel, value)
    return value


@jit
def forward(part, sizes, given, out):
    """Convolve a part of the samples, pixels and channels.

    Args:
        part: Which ones.
        sizes: See `Sizes`.
        given: See `Given`.
        out: Filled with the output, maps ``(B, H, W, C)``.
    """
    strip, channels = new_strip(), sizes.channels
    x, weight = given.x, given.weight
    for sample in range(part.first_sample, part.end_sample):
        start = sample * sizes.height * sizes.width * channels
        for first in range(part.first_pixel, part.end_pixel, LANES):
            count = min(LANES, part.end_pixel - first)
            locate(strip, sizes, given.offsets, sample, first, count)
            for lane in range(count):
                for channel in range(part.first_channel, part.end_channel, LANES):
                    sums = filled(_ZERO)
                    for tap in range(TAPS):
                        q = tap * LANES + lane
                        if strip.found[q] > _ZERO:
                            value = _sampled(strip, q, x, start + channel, channels)
                            filter_ = load(weight, tap * channels + channel)
                            sums = multiply_add(value, filter_, sums)
                    store(out, start + (first + lane) * channels + channel, sums)


@jit
def _pixel(strip, q, corner, x, origin, channels):
    """A corner's numbers, zero outside the map."""
    inside = filled(strip.inside[q + corner * CORNER])
    return multiply(inside, load(x, place(strip, q, corner, origin, channels)))


@jit
def _walk_tap(strip, given, gradients, grad_x, tap, channels, origin, pixel, filter_place):
    """Add what 16 channels of one tap contribute to the gradients of the map and the filters.

    Args:
        strip: See `Strip`.
        given: See `Given`.
        gradients: See `StripGradients`; ``rows`` and ``columns`` are filled.
        grad_x: Gradient of the map, added to.
        tap: Its number.
        channels: Of the maps.
        origin: Place in the maps of the sample's first pixel, in the first of the channels.
        pixel: The same of the strip's first pixel.
        filter_place: Place in the filters of the tap's number in the first of the channels.
    """
    filter_, sums = load(given.weight, filter_place), load(gradients.weight, filter_place)
    for lane in range(LANES):
        q = tap * LANES + lane
        if strip.found[q] > _ZERO:
            upper_left = _pixel(strip, q, 0, given.x, origin, channels)
            upper = subtract(_pixel(strip, q, 1, given.x, origin, channels), upper_left)
            lower_left = _pixel(strip, q, 2, given.x, origin, channels)
            lower = subtract(_pixel(strip, q, 3, given.x, origin, channels), lower_left)
            right, down = filled(strip.right[q]), filled(strip.down[q])
            value = multiply_add(right, upper, upper_left)
            by_row = subtract(multiply_add(right, lower, lower_left), value)
            by_column = multiply_add(down, subtract(lower, upper), upper)
            incoming = load(gradients.out, pixel + lane * channels)
            sums = multiply_add(incoming, multiply_add(down, by_row, value), sums)
            incoming = multiply(incoming, filter_)
            store(gradients.rows, lane * LANES, multiply(incoming, by_row))
            store(gradients.columns, lane * LANES, multiply(incoming, by_column))
            for corner in range(4):
                to = place(strip, q, corner, origin, channels)
                share = filled(strip.weights[q + corner * CORNER])
                store(grad_x, to, multiply_add(share, incoming, load(grad_x, to)))
        else:
            store(gradients.rows, lane * LANES, filled(_ZERO))
            store(gradients.columns, lane * LANES, filled(_ZERO))
    store(gradients.weight, filter_place, sums)


@jit
def _walk_strip(part, sizes, strip, given, gradients, grad_x, start, first):
    """Set the strip's gradients of the offsets, and add to those of map and filters."""
    channels = sizes.channels
    gradients.moves[:] = _ZERO
    for tap in range(TAPS):
        row, column = 2 * tap * LANES, (2 * tap + 1) * LANES
        for channel in range(part.first_channel, part.end_channel, LANES):
            origin = start + channel
            pixel, filter_place = origin + first * channels, tap * channels + channel
            _walk_tap(strip, given, gradients, grad_x, tap, channels, origin, pixel, filter_place)
            by_row, by_column = totals(gradients.rows, 0), totals(gradients.columns, 0)
            store(gradients.moves, row, add(load(gradients.moves, row), by_row))
            store(gradients.moves, column, add(load(gradients.moves, column), by_column))


@jit
def _keep(sums, of_sample):
    """Move sums for the filters to those in float64."""
    for number in range(sums.size):
        of_sample[number] += sums[number]
    sums[:] = _ZERO


@jit
def backward(part, sizes, given, grad_out, into):
    """Add up the gradients of a part of the samples and channels, of all their pixels.

    Args:
        part: Which ones.
        sizes: See `Sizes`.
        given: See `Given`.
        grad_out: Gradient of the output, maps ``(B, H, W, C)``.
        into: See `Gradients`.
    """
    strip, filters = new_strip(), TAPS * sizes.channels
    rows, columns = np.empty(LANES * LANES, np.float32), np.empty(LANES * LANES, np.float32)
    moves, sums = np.empty(2 * CORNER, np.float32), np.zeros(filters, np.float32)
    gradients = StripGradients(grad_out, rows, columns, moves, sums)
    for sample in range(part.first_sample, part.end_sample):
        start = sample * sizes.height * sizes.width * sizes.channels
        of_sample = into.weight[sample * filters : (sample + 1) * filters]
        for first in range(part.first_pixel, part.end_pixel, LANES):
            count = min(LANES, part.end_pixel - first)
            locate(strip, sizes, given.offsets, sample, first, count)
            _walk_strip(part, sizes, strip, given, gradients, into.x, start, first)
            write_offsets(into.offsets, sample, strip.rows, strip.columns, count, moves)
            _keep(sums, of_sample)
