"""The class with the largest logit, of logits as they are and of resampled ones, for numba.

Of two equal logits the first wins, as in NumPy.
"""

# What numba compiles: it infers the types.
# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from nnmedseg.ops._compiled import jit

COLUMNS = 4096
"""Voxels of a row that are compared class by class while they stay in the cache."""
GAP = 12
"""So many voxels between two spans of doubtful ones are as quickly interpolated as left out."""
MIXED = -1
"""Stands for a column of voxels with several winners."""

HALF_SIGN, HALF_MAGNITUDE = -(2**15), 2**15 - 1
HALF_TO_SINGLE_BITS = 13
HALF_A_STEP = 2 ** (HALF_TO_SINGLE_BITS - 1) - 1
HALF_TO_SINGLE_SCALE = np.float32(2.0**112)


class Slab(NamedTuple):
    """Logits of classes, rows and lines of columns that lie beside each other in memory.

    Attributes:
        memory: (M,) float32, or int16 for the bits of float16.
        start: Where the first logit is.
        steps: From one class, row and line to the next.
        classes: Number of them.
        rounds: Whether interpolated logits are rounded to float16 before they are compared.
    """

    memory: np.ndarray
    start: int
    steps: tuple[int, int, int]
    classes: int
    rounds: bool


class Taps(NamedTuple):
    """Of which two voxels each one of a resized axis is made; see `AxisTaps`."""

    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray


class Corners(NamedTuple):
    """The four lines of logits that a line of the result lies between.

    Attributes:
        starts: Where the first logit of each is: of the first row two lines, then of the second.
        row_weight: Of the second row.
        line_weight: Of the second lines.
    """

    starts: tuple[int, int, int, int]
    row_weight: np.float32
    line_weight: np.float32


def in_order(value):
    """Return a number that compares as the logit does."""


@overload(in_order)
def _in_order(value):
    if isinstance(value, types.Float):
        return lambda value: value
    return lambda value: value if value >= 0 else np.int16(HALF_SIGN - value)


def as_single(value):
    """Return a logit as float32; infinite ones of float16 become larger than all others."""


@overload(as_single)
def _as_single(value):
    if isinstance(value, types.Float):
        return lambda value: value

    def from_half(value):
        bits = np.int32((value & HALF_MAGNITUDE) << HALF_TO_SINGLE_BITS)
        size = bits.view(np.float32) * HALF_TO_SINGLE_SCALE
        return size if value >= 0 else -size

    return from_half


class Line(NamedTuple):
    """A line of the result in the making.

    Attributes:
        logits: (columns,) float32, interpolated between rows and lines.
        best: (columns',) float32, the largest logits so far.
        labels: (columns',) int16, the classes that they are of.
    """

    logits: np.ndarray
    best: np.ndarray
    labels: np.ndarray


@jit
def find_winners(slab, parts, out):
    """Find the class of the largest logit of each voxel.

    Args:
        slab: `Slab`.
        parts: First of the parts of lines (`COLUMNS` long), counted through all lines of all rows,
            and the one behind the last.
        out: (rows, lines, columns) int16.
    """
    _, lines, columns = out.shape
    parts_of_line = (columns + COLUMNS - 1) // COLUMNS
    best = np.empty(COLUMNS, slab.memory.dtype)
    for part in range(parts[0], parts[1]):
        line, first = part // parts_of_line, part % parts_of_line * COLUMNS
        row, line = line // lines, line % lines
        winners = out[row, line, first : first + COLUMNS]
        begin = slab.start + row * slab.steps[1] + line * slab.steps[2] + first
        _find_in_part(slab, begin, best[: len(winners)], winners)


@jit
def _find_in_part(slab, begin, best, winners):
    for i in range(len(best)):
        best[i] = in_order(slab.memory[begin + i])
    winners[:] = 0
    for k in range(1, slab.classes):
        begin += slab.steps[0]
        logits = slab.memory[begin : begin + len(best)]
        for i in range(len(best)):
            value = in_order(logits[i])
            larger = value > best[i]
            best[i] = value if larger else best[i]
            winners[i] = k if larger else winners[i]


@jit
def resize_winners(slab, winners, taps, lines, out):
    """Find the class of the largest logit of each voxel of the resampled image.

    Where the neighbours of a voxel all have the same winner, it wins between them too; only the
    logits of other voxels are interpolated.

    Args:
        slab: `Slab` of rows.
        winners: (rows, lines, columns) int16 of these rows, see `find_winners`.
        taps: `Taps` of rows, lines and columns.
        lines: First line of the result, counted through all rows, and the one behind the last.
        out: (rows', lines', columns') int16.
    """
    columns = taps[2]
    common = np.empty(winners.shape[2], np.int16)
    logits, best = np.empty(winners.shape[2], np.float32), np.empty(out.shape[2], np.float32)
    for number in range(lines[0], lines[1]):
        i, j = number // out.shape[1], number % out.shape[1]
        corners = _corners(slab, taps, i, j)
        _find_common(winners, taps, i, j, common)
        line = Line(logits, best, out[i, j])
        first, behind = 0, 0
        for x in range(out.shape[2]):
            winner = common[columns.first[x]]
            line.labels[x] = winner
            if winner != MIXED and winner == common[columns.second[x]]:
                continue
            if x - behind > GAP or behind == 0:
                _decide(slab, corners, columns, (first, behind), line)
                first = x
            behind = x + 1
        _decide(slab, corners, columns, (first, behind), line)


@jit
def interpolate(slab, taps, lines, out):
    """Interpolate logits along rows, lines and columns.

    Args:
        slab: `Slab` of rows.
        taps: `Taps` of rows, lines and columns.
        lines: First line of the result, counted through all rows, and the one behind the last.
        out: (classes, rows', lines', columns') float32.
    """
    _, _, lines_of_row, columns = out.shape
    begin = taps[2].first[0]
    single = np.empty(taps[2].second[-1] + 1, np.float32)
    for number in range(lines[0], lines[1]):
        i, j = number // lines_of_row, number % lines_of_row
        corners = _corners(slab, taps, i, j)
        for k in range(slab.classes):
            _interpolate_line(slab.memory, corners, k * slab.steps[0] + begin, single[begin:])
            line = out[k, i, j]
            for x in range(columns):
                line[x] = _between(single, taps[2].first[x], taps[2].second[x], taps[2].weights[x])


@jit
def _corners(slab, taps, row, line):
    """Return the `Corners` of a line of the result."""
    rows, lines, _ = taps
    upper = slab.start + rows.first[row] * slab.steps[1]
    lower = slab.start + rows.second[row] * slab.steps[1]
    left, right = lines.first[line] * slab.steps[2], lines.second[line] * slab.steps[2]
    starts = (upper + left, upper + right, lower + left, lower + right)
    return Corners(starts, rows.weights[row], lines.weights[line])


@jit
def _find_common(winners, taps, row, line, common):
    """Find where the four lines around a line of the result have one winner."""
    upper, lower = winners[taps[0].first[row]], winners[taps[0].second[row]]
    a, b = upper[taps[1].first[line]], upper[taps[1].second[line]]
    c, d = lower[taps[1].first[line]], lower[taps[1].second[line]]
    for i in range(len(common)):
        same = (a[i] == b[i]) & (a[i] == c[i]) & (a[i] == d[i])
        common[i] = a[i] if same else MIXED


@jit
def _interpolate_line(memory, corners, shift, out):
    """Interpolate a line between rows and lines, from place ``shift`` of the corners' on."""
    starts, between, beside = corners
    a = memory[starts[0] + shift : starts[0] + shift + len(out)]
    b = memory[starts[1] + shift : starts[1] + shift + len(out)]
    c = memory[starts[2] + shift : starts[2] + shift + len(out)]
    d = memory[starts[3] + shift : starts[3] + shift + len(out)]
    for i in range(len(out)):
        left, right = as_single(a[i]), as_single(b[i])
        left += between * (as_single(c[i]) - left)
        right += between * (as_single(d[i]) - right)
        out[i] = left + beside * (right - left)


@jit
def _between(line, first, second, weight):
    # unsigned, for which numba does not ask whether to count from the end
    value = line[np.uint64(first)]
    return value + weight * (line[np.uint64(second)] - value)


@jit
def rounded_to_half(value):
    """Return the nearest float32 with the 11 digits of float16, of two the even one.

    Below 2 ** -14 float16 has fewer.
    """
    bits = np.float32(value).view(np.int32)
    even = (bits >> HALF_TO_SINGLE_BITS) & 1
    return np.int32((bits + HALF_A_STEP + even) & ~(2 * HALF_A_STEP + 1)).view(np.float32)


@jit
def _decide(slab, corners, columns, span, line):
    """Find the winners of a span of a line among its interpolated logits.

    Args:
        slab: `Slab`.
        corners: `Corners` of the line.
        columns: `Taps`.
        span: First column of the result and the one behind the last.
        line: `Line`.
    """
    if span[0] == span[1]:
        return
    begin, behind = columns.first[span[0]], columns.second[span[1] - 1] + 1
    first, second = columns.first[span[0] : span[1]], columns.second[span[0] : span[1]]
    weights = columns.weights[span[0] : span[1]]
    best, labels = line.best[span[0] : span[1]], line.labels[span[0] : span[1]]
    best[:] = -np.inf
    labels[:] = 0
    for k in range(slab.classes):
        shift = k * slab.steps[0] + begin
        _interpolate_line(slab.memory, corners, shift, line.logits[begin:behind])
        for i in range(len(best)):
            value = _between(line.logits, first[i], second[i], weights[i])
            if slab.rounds:
                value = rounded_to_half(value)
            larger = value > best[i]
            best[i] = value if larger else best[i]
            labels[i] = k if larger else labels[i]
