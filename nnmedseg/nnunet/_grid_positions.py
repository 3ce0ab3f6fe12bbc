"""Where the voxels of a resized axis lie between those of the original, as SciPy computes it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """What each voxel of a resized axis is made of.

    Attributes:
        starts: (N,) int64, the first of the neighbouring original voxels.
        weights: (N, K) float64, one for each of them.
        nearest: (N,) int64, the nearest original voxel.
    """

    starts: np.ndarray
    weights: np.ndarray
    nearest: np.ndarray


def positions(old: int, new: int) -> np.ndarray:
    """Return the coordinates (new,) of resized voxels' centres on the original axis."""
    return (np.arange(new, dtype=np.float64) + 0.5) * np.divide(old, new) - 0.5


def nearest(coordinates: np.ndarray, old: int) -> np.ndarray:
    """Return which original voxel is nearest to each coordinate; halves go up."""
    return np.floor(np.clip(coordinates, 0, old - 1) + 0.5).astype(np.int64)


def linear_taps(old: int, new: int) -> Taps:
    """Return two neighbours, beyond the border the outermost voxel, and their weights."""
    coordinates = np.clip(positions(old, new), 0, old - 1)
    starts = np.floor(coordinates)
    first = 1.0 - (coordinates - starts)
    weights = np.stack([first, 1.0 - first], axis=1)
    return Taps(starts.astype(np.int64), weights, nearest(coordinates, old))


def picked_taps(old: int, new: int) -> Taps:
    """Return the nearest voxel alone, in the form of linear weights."""
    starts = nearest(positions(old, new), old)
    return Taps(starts, np.tile([1.0, 0.0], (new, 1)), starts)


def cubic_taps(old: int, new: int, padding: int) -> Taps:
    """Return four neighbours among ``old + 2 * padding`` coefficients and their weights."""
    coordinates = positions(old, new)
    padded = coordinates + padding
    starts = np.floor(padded)
    x = padded - starts
    z = 1.0 - x
    weights = np.empty((new, 4))
    weights[:, 1] = (x * x * (x - 2.0) * 3.0 + 4.0) / 6.0
    weights[:, 2] = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0
    weights[:, 0] = z * z * z / 6.0
    weights[:, 3] = 1.0 - weights[:, 0] - weights[:, 1] - weights[:, 2]
    return Taps(starts.astype(np.int64) - 1, weights, nearest(coordinates, old))
