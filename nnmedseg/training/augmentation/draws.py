# ruff: noqa: NPY002
"""Random numbers from the generator that nnU-Net's transforms use too, which a run's seed sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Range = tuple[float, float]


def uniform(between: Range) -> float:
    """Return a number between two others."""
    return float(np.random.uniform(*between))


def index(count: int) -> int:
    """Return one of 0, 1, ... below a count."""
    return int(np.random.randint(count))


def one_of(values: Sequence[int]) -> int:
    """Return one of some numbers."""
    return values[index(len(values))]


def several(count: int, of: int) -> list[int]:
    """Return some of 0, 1, ... below a number, each at most once, in random order."""
    return [int(one) for one in np.random.permutation(of)[:count]]


def normal(deviation: float, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return numbers around 0."""
    return np.random.normal(0, deviation, shape)
