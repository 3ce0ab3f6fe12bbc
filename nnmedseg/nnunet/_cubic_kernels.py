"""Cubic spline interpolation on a grid of planes, compiled by numba: see `_cubic_resampling`.

The recursions and sums are those of ``scipy.ndimage``, operation by operation, where it says so.
"""

# What numba compiles: it infers the types.
# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnmedseg.ops._compiled import jit

PADDING = 12
"""Voxels that are repeated at each border before filtering, as in SciPy."""
POLE = -0.267949192431122706472553658494127633
"""sqrt(3) - 2, the pole of the cubic spline's filter."""
GAIN = (1.0 - POLE) * (1.0 - 1.0 / POLE)
NEGLIGIBLE = 1e-200
"""Weights that decide no float32 number; their products would be denormal numbers, and slow."""
LINES = 64
"""Lines that are filtered together: they fit the second-level cache, and fill SIMD registers."""


class Held(NamedTuple):
    """Planes that are interpolated between at the moment.

    Attributes:
        coefficients: (S, rows, columns) float64, filtered and padded planes.
        interpolated: (S, Y, X) float64, the same, interpolated within each plane.
    """

    coefficients: np.ndarray
    interpolated: np.ndarray


class Between(NamedTuple):
    """How one plane of the result is made of those that are held.

    Attributes:
        slots: (K,) int64, which of the S planes: four, or one.
        weights: (K,) float64.
        low: The smallest value that may result; ``high``: the largest.
        high: See ``low``.
        error: How far a sum by axes may be from one in SciPy's order.
    """

    slots: np.ndarray
    weights: np.ndarray
    low: float
    high: float
    error: float


@jit
def start_lines(lines, power):
    """Set the first coefficient of each line, before the filter runs along it from there.

    Beyond its ends a line continues as its own reflection.
    """
    length, width = lines.shape
    first = lines[0].copy()
    for k in range(width):
        lines[0, k] = lines[0, k] + power * lines[length - 1, k]
    weight = POLE
    for i in range(1, length):
        if abs(weight) < NEGLIGIBLE:
            break
        for k in range(width):
            lines[0, k] += weight * (lines[i, k] + power * lines[length - 1 - i, k])
        weight *= POLE
    for k in range(width):
        lines[0, k] *= POLE / (1 - power * power)
        lines[0, k] += first[k]


@jit
def filter_lines(lines, power):
    """Turn samples into spline coefficients in place, as SciPy does for each single line.

    Args:
        lines: (N, K) float64, K lines beside each other.
        power: ``POLE ** N`` as the C library computes it, or 0 if that is below ``NEGLIGIBLE``.
    """
    length, width = lines.shape
    for i in range(length):
        for k in range(width):
            lines[i, k] *= GAIN
    start_lines(lines, power)
    for i in range(1, length):
        for k in range(width):
            lines[i, k] += POLE * lines[i - 1, k]
    for k in range(width):
        lines[length - 1, k] *= POLE / (POLE - 1)
    for i in range(length - 2, -1, -1):
        for k in range(width):
            lines[i, k] = POLE * (lines[i + 1, k] - lines[i, k])


@jit
def filter_across_planes(volume, power, out):
    """Filter a volume (Z, Y, X) along z into ``out`` (Z + 2 * PADDING, Y, X) float64."""
    depth, height, width = volume.shape
    scratch = np.empty((depth + 2 * PADDING, LINES))
    for y in range(height):
        for first in range(0, width, LINES):
            count = min(LINES, width - first)
            for i in range(depth + 2 * PADDING):
                z = min(max(i - PADDING, 0), depth - 1)
                for k in range(count):
                    scratch[i, k] = volume[z, y, first + k]
                for k in range(count, LINES):
                    scratch[i, k] = 0.0
            filter_lines(scratch, power)
            for i in range(depth + 2 * PADDING):
                for k in range(count):
                    out[i, y, first + k] = scratch[i, k]


@jit
def filter_plane(plane, powers, out):
    """Filter a plane (Y, X) along y, then x, into ``out``, float64 and padded at each border.

    Returns:
        The largest magnitude of a coefficient.
    """
    height, width = plane.shape
    rows, columns = out.shape
    for i in range(rows):
        y = min(max(i - PADDING, 0), height - 1)
        for j in range(columns):
            out[i, j] = plane[y, min(max(j - PADDING, 0), width - 1)]
    filter_lines(out, powers[0])
    scratch = np.zeros((columns, LINES))
    largest = 0.0
    for first in range(0, rows, LINES):
        count = min(LINES, rows - first)
        for k in range(count):
            for j in range(columns):
                scratch[j, k] = out[first + k, j]
        filter_lines(scratch, powers[1])
        for k in range(count):
            for j in range(columns):
                out[first + k, j] = scratch[j, k]
                largest = max(largest, abs(scratch[j, k]))
    return largest


@jit
def interpolate_plane(coefficients, y, x, out):
    """Interpolate filtered coefficients first between rows, then along them, into ``out``.

    Args:
        coefficients: (rows, columns).
        y: `Taps` of the rows of ``out``.
        x: `Taps` of its columns.
        out: (Y, X) float64.
    """
    row = np.empty(coefficients.shape[1])
    for i in range(out.shape[0]):
        start, weights = y.starts[i], y.weights[i]
        for j in range(len(row)):
            row[j] = (
                weights[0] * coefficients[start, j]
                + weights[1] * coefficients[start + 1, j]
                + weights[2] * coefficients[start + 2, j]
                + weights[3] * coefficients[start + 3, j]
            )
        for k in range(out.shape[1]):
            j = x.starts[k]
            out[i, k] = (
                x.weights[k, 0] * row[j]
                + x.weights[k, 1] * row[j + 1]
                + x.weights[k, 2] * row[j + 2]
                + x.weights[k, 3] * row[j + 3]
            )


@jit
def exact_value(coefficients, between, y, x, voxel):
    """Sum one voxel in SciPy's order: its float64 value to the last bit."""
    row, column = voxel
    total = 0.0
    for k in range(len(between.slots)):
        for i in range(4):
            for j in range(4):
                term = coefficients[between.slots[k], y.starts[row] + i, x.starts[column] + j]
                term *= between.weights[k]
                term *= y.weights[row, i]
                term *= x.weights[column, j]
                total += term
    return total


@jit
def combine_planes(held, between, y, x, out):
    """Interpolate between planes, clip, and round to float32.

    Where the error decides how a value is rounded, the voxel is summed again.

    Args:
        held: `Held` planes.
        between: `Between` which of them, and with what weights.
        y: `Taps` of the rows of ``out``.
        x: `Taps` of its columns.
        out: (Y, X) float32.
    """
    low, high, error = between.low, between.high, between.error
    row = np.empty(out.shape[1])
    doubtful = np.empty(out.shape[1], np.bool_)
    for i in range(out.shape[0]):
        row[:] = 0.0
        for k in range(len(between.slots)):
            plane, weight = held.interpolated[between.slots[k]], between.weights[k]
            for j in range(len(row)):
                row[j] += weight * plane[i, j]
        count = 0
        for j in range(len(row)):
            below = np.float32(min(max(row[j] - error, low), high))
            above = np.float32(min(max(row[j] + error, low), high))
            out[i, j] = below
            doubtful[j] = below != above
            count += below != above
        if count == 0:
            continue
        for column in np.flatnonzero(doubtful):
            value = exact_value(held.coefficients, between, y, x, (i, column))
            out[i, column] = np.float32(min(max(value, low), high))
