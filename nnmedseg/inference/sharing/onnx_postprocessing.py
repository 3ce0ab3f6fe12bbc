"""Post-processing that a model's cross-validation has shown to help, for ``onnx_runner.py``.

It needs NumPy alone, and lies beside the runner of a model that has learnt some.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = Callable[[np.ndarray, Sequence[float], float], np.ndarray]


def postprocessed(
    labels: np.ndarray, rules: dict[str, Any], spacing: Sequence[float]
) -> np.ndarray:
    """Return a changed copy of a label map (Z, H, W) with this spacing of its axes."""
    result = labels.copy()
    of_volume = rules["dimensions"] == 3
    pairs = [(labels, result)] if of_volume else zip(labels, result, strict=True)
    for before, after in pairs:
        for target in rules["targets"]:
            outside = target["outside"]
            old = np.isin(after, target["labels"])
            free = np.isin(before, (0, outside)) & np.isin(after, (0, outside))
            new = old
            for step in target["steps"]:
                changed = _STEPS[step["name"]](new, spacing[-old.ndim :], step["size"])
                new = changed & (old | free)
            after[old & ~new] = outside
            after[new & ~old] = target["inside"]
    return result


def _keep_largest(mask: np.ndarray, _spacing: Sequence[float], _size: float) -> np.ndarray:
    regions, areas, own = _regions(mask)
    first = len(regions) - 1 - areas[::-1].argmax() if len(regions) else 0
    return mask & (own == first)


def _remove_small(mask: np.ndarray, spacing: Sequence[float], size: float) -> np.ndarray:
    regions, areas, own = _regions(mask)
    return mask & (areas >= size / math.prod(spacing))[own] if len(regions) else mask


def _fill_holes(mask: np.ndarray, _spacing: Sequence[float], _size: float) -> np.ndarray:
    numbers = _numbered(np.pad(~mask, 1, constant_values=True), over_corners=False)
    inner = (slice(1, -1),) * mask.ndim
    return np.asarray(mask | (numbers[inner] != numbers.flat[0]))


def _opening(mask: np.ndarray, spacing: Sequence[float], size: float) -> np.ndarray:
    return _dilated(~_dilated(~mask, spacing, size), spacing, size) & mask


def _closing(mask: np.ndarray, spacing: Sequence[float], size: float) -> np.ndarray:
    room = [round(size / distance) + 1 for distance in spacing]
    wide = np.pad(mask, [(radius, radius) for radius in room])
    closed = ~_dilated(~_dilated(wide, spacing, size), spacing, size)
    return np.asarray(closed[tuple(slice(radius, -radius) for radius in room)])


_STEPS: dict[str, Step] = {
    "keep_largest": _keep_largest,
    "remove_small": _remove_small,
    "fill_holes": _fill_holes,
    "opening": _opening,
    "closing": _closing,
}


def _dilated(mask: np.ndarray, spacing: Sequence[float], size: float) -> np.ndarray:
    """Add the pixels of ITK's ball around each pixel; what lies beyond the border is none."""
    radii = [round(size / distance) for distance in spacing]
    wide = np.pad(mask, [(radius, radius) for radius in radii])
    result = np.zeros_like(mask)
    for offset in itertools.product(*(range(-radius, radius + 1) for radius in radii)):
        far = sum((n / (radius + 0.5)) ** 2 for n, radius in zip(offset, radii, strict=True))
        if far <= 1:
            starts = [radius + n for radius, n in zip(radii, offset, strict=True)]
            sides = zip(starts, mask.shape, strict=True)
            result |= wide[tuple(slice(start, start + n) for start, n in sides)]
    return result


def _regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return regions by number, their areas, and for each pixel the place of its region there."""
    numbers = _numbered(mask, over_corners=True)
    regions, areas = np.unique(numbers[mask], return_counts=True)
    return regions, areas, np.searchsorted(regions, numbers).clip(0, max(len(regions) - 1, 0))


def _numbered(mask: np.ndarray, *, over_corners: bool) -> np.ndarray:
    """Return how far from the last pixel the first one of each pixel's region is, or 0."""
    wide = np.pad(mask, 1)  # so that nothing is carried around the border
    numbers, before = np.arange(wide.size, 0, -1).reshape(wide.shape) * wide, None
    while before is None or not np.array_equal(before, numbers):
        before = highest = numbers
        for axis in range(wide.ndim):
            near = highest if over_corners else before
            for way in (1, -1):
                highest = np.maximum(highest, np.roll(near, way, axis))
        numbers = highest * wide
        numbers = numbers.flat[-numbers] * wide  # that pixel may have heard of an earlier one
    return numbers[(slice(1, -1),) * mask.ndim]
