"""Cubic resampling of volumes, to the last bit that of scikit-image, in a tenth of the time.

``skimage.transform.resize`` sums 64 products for each voxel. Interpolating axis by axis needs
twelve, but rounds differently in the last of 53 bits. The result is stored with 24 bits, so both
round to the same number, unless the value lies within the errors' bound of the middle between two
of those; these few voxels are summed again in SciPy's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnmedseg.nnunet._cubic_kernels import (
    NEGLIGIBLE,
    PADDING,
    POLE,
    Between,
    Held,
    combine_planes,
    filter_across_planes,
    filter_plane,
    interpolate_plane,
)
from nnmedseg.nnunet._grid_positions import Taps, cubic_taps, picked_taps

ERROR = 1e-14
"""How far two orders of summation may differ, relative to the largest coefficient.

Weights are positive and sum to one. Each of the 64 terms is rounded three times and in 63 sums,
those by axis in at most 15 steps: less than 90 roundings of 2 ** -53 each.
"""


def resize_cubic(volume: np.ndarray, shape: tuple[int, ...], out: np.ndarray) -> None:
    """Resize as ``resize(volume, shape, 3, mode="edge", anti_aliasing=False)`` of scikit-image.

    Args:
        volume: (Z, Y, X) float32.
        shape: New size.
        out: (Z', Y', X') float32, is filled.
    """
    taps = [cubic_taps(old, new, PADDING) for old, new in zip(volume.shape, shape, strict=True)]
    depth = volume.shape[0] + 2 * PADDING
    filtered = np.empty((depth, *volume.shape[1:]))
    filter_across_planes(volume, _power(depth), filtered)
    window = _Window(filtered, taps[1:], slots=4)
    bounds = float(volume.min()), float(volume.max())
    for z, (start, weights) in enumerate(zip(taps[0].starts, taps[0].weights, strict=True)):
        window.combine(np.arange(start, start + 4), weights, bounds, out[z])


def resize_cubic_slices(volume: np.ndarray, shape: tuple[int, ...], out: np.ndarray) -> None:
    """Resize each slice (Y, X) by itself; new slices are copies of the nearest ones.

    Args:
        volume: (Z, Y, X) float32.
        shape: New size.
        out: (Z', Y', X') float32, is filled.
    """
    picked = picked_taps(volume.shape[0], shape[0]).starts
    same_plane = tuple(volume.shape[1:]) == tuple(shape[1:])
    taps = [
        cubic_taps(old, new, PADDING) for old, new in zip(volume.shape[1:], shape[1:], strict=True)
    ]
    window = _Window(volume, taps, slots=1)
    for z, source in enumerate(picked):
        if z and source == picked[z - 1]:
            out[z] = out[z - 1]
        elif same_plane:
            out[z] = volume[source]
        else:
            plane = volume[source]
            bounds = float(plane.min()), float(plane.max())
            window.combine(np.array([source]), np.ones(1), bounds, out[z])


class _Window:
    """The planes that are interpolated between at the moment; each is filtered once.

    Args:
        planes: (Z, Y, X), filtered along z or not at all.
        taps: Of the axes y and x.
        slots: Planes that are held.
    """

    def __init__(self, planes: np.ndarray, taps: Sequence[Taps], slots: int) -> None:
        self._planes = planes
        self._taps = taps
        padded = [size + 2 * PADDING for size in planes.shape[1:]]
        self._powers = np.array([_power(size) for size in padded])
        self._held = Held(
            np.empty((slots, *padded)), np.empty((slots, *(len(tap.starts) for tap in taps)))
        )
        self._largest = np.zeros(slots)
        self._indices = [-1] * slots

    def combine(
        self, indices: np.ndarray, weights: np.ndarray, bounds: tuple[float, float], out: np.ndarray
    ) -> None:
        """Write the weighted sum of planes, clipped to ``bounds``, to ``out`` (Y', X')."""
        slots = np.array([self._slot(int(index)) for index in indices])
        error = ERROR * float(self._largest[slots].max())
        between = Between(slots, weights, *bounds, error)
        combine_planes(self._held, between, *self._taps, out)

    def _slot(self, index: int) -> int:
        """Return where a plane is held, after filtering and interpolating it if it is new."""
        slot = index % len(self._indices)
        if self._indices[slot] != index:
            coefficients, interpolated = (planes[slot] for planes in self._held)
            self._largest[slot] = filter_plane(self._planes[index], self._powers, coefficients)
            interpolate_plane(coefficients, *self._taps, interpolated)
            self._indices[slot] = index
        return slot


def _power(length: int) -> float:
    """Return the pole's power that starts the filter, by the C library as in SciPy."""
    power = math.pow(POLE, length)
    return power if abs(power) >= NEGLIGIBLE else 0.0
