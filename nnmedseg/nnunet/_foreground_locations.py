"""The foreground voxels that nnU-Net centres patches on, drawn without listing all coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

SEED = 1234
FEWEST_SAMPLES = 10_000
SMALLEST_SHARE = 0.01
"""nnU-Net's own numbers."""


def sample_locations(
    labels: np.ndarray, classes: Iterable[int | Sequence[int]]
) -> dict[int | tuple[int, ...], Any]:
    """Return the voxels that nnU-Net's ``_sample_foreground_locations`` picks with its defaults.

    Args:
        labels: (1, Z, Y, X) int16.
        classes: Labels, and regions of several labels.

    Returns:
        For each class coordinates (N, 4) int64, channel first; an empty list where it is absent.
    """
    keys = [_key(one) for one in classes]
    found = _voxels_by_label(labels, {label for key in keys for label in _members(key)})
    random = np.random.RandomState(SEED)
    locations: dict[int | tuple[int, ...], Any] = {}
    for key in keys:
        parts = [found[label] for label in _members(key) if label in found]
        if not parts:
            locations[key] = []
            continue
        voxels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        count = max(
            min(FEWEST_SAMPLES, len(voxels)), math.ceil(np.float64(len(voxels)) * SMALLEST_SHARE)
        )
        picked = voxels[random.choice(len(voxels), count, replace=False)]
        locations[key] = np.stack(np.unravel_index(picked, labels.shape), axis=1)
    return locations


def _key(one: int | Sequence[int]) -> int | tuple[int, ...]:
    """Return a class as nnU-Net writes it into a case's properties."""
    return tuple(map(int, one)) if isinstance(one, Sequence) else int(one)


def _members(key: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the labels of a class."""
    return key if isinstance(key, tuple) else (key,)


def _voxels_by_label(labels: np.ndarray, wanted: set[int]) -> dict[int, np.ndarray]:
    """Return the flat indices of each label's voxels, ascending; found plane by plane."""
    plane_size = math.prod(labels.shape[2:])
    narrow = np.uint32 if labels.size < 2**32 else np.int64
    only_foreground = min(wanted, default=1) > 0
    parts: dict[int, list[np.ndarray]] = {}
    for z, plane in enumerate(labels[0]):
        values = plane.ravel()
        indices = np.flatnonzero(values > 0) if only_foreground else np.arange(plane_size)
        if not indices.size:
            continue
        values = values[indices]
        order = np.argsort(values, kind="stable")
        values, indices = values[order], (indices[order] + z * plane_size).astype(narrow)
        borders = np.flatnonzero(values[1:] != values[:-1]) + 1
        for start, end in pairwise([0, *borders, len(values)]):
            if (label := int(values[start])) in wanted:
                parts.setdefault(label, []).append(indices[start:end])
    return {label: np.concatenate(pieces) for label, pieces in parts.items()}
