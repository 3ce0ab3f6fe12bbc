"""Intensity statistics of the foreground of a data set, from histograms.

nnU-Net draws 10^8 foreground samples whatever the size of the data. A histogram of an 8-bit image
holds the same information exactly in 256 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST_HISTOGRAM = 2**17
SAMPLES_OF_CONTINUOUS_CASE = 100_000


@dataclass(frozen=True)
class Distribution:
    """Intensities of one channel of one case, with weights that add up to one.

    Attributes:
        values: Intensities, shape ``(K,)``.
        weights: The share of foreground pixels with that intensity, shape ``(K,)``.
    """

    values: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]


def distribution_of(pixels: npt.NDArray[np.floating]) -> Distribution | None:
    """Return the distribution of foreground pixels ``(P,)``, or ``None`` if there are none.

    It is exact for whole-number intensities (8- and 16-bit images, Hounsfield units), and drawn
    from 10^5 pixels otherwise.
    """
    if pixels.size == 0:
        return None
    lowest, highest = float(pixels.min()), float(pixels.max())
    if highest - lowest < LARGEST_HISTOGRAM:
        whole = pixels.astype(np.int64)
        if np.array_equal(whole, pixels):
            counts = np.bincount(whole - int(lowest))
            present = np.flatnonzero(counts)
            return Distribution(
                (present + lowest).astype(np.float64), counts[present] / pixels.size
            )
    if pixels.size > SAMPLES_OF_CONTINUOUS_CASE:
        pixels = np.random.default_rng(1234).choice(pixels, SAMPLES_OF_CONTINUOUS_CASE)
    return Distribution(pixels.astype(np.float64), np.full(pixels.size, 1 / pixels.size))


def intensity_statistics(cases: Sequence[Distribution | None]) -> dict[str, float]:
    """Return nnU-Net's statistics of one channel; each case that has foreground weighs the same."""
    present = [case for case in cases if case is not None]
    if not present:
        names = ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")
        return dict.fromkeys(names, 0.0)
    values = np.concatenate([case.values for case in present])
    weights = np.concatenate([case.weights for case in present]) / len(present)
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    cumulative = np.cumsum(weights)
    mean = float(np.sum(values * weights))

    def percentile(share: float) -> float:
        index = int(np.searchsorted(cumulative, share / 100 - 1e-12))
        return float(values[min(index, len(values) - 1)])

    return {
        "mean": mean,
        "median": percentile(50),
        "std": float(np.sqrt(np.sum(weights * (values - mean) ** 2))),
        "min": float(values[0]),
        "max": float(values[-1]),
        "percentile_99_5": percentile(99.5),
        "percentile_00_5": percentile(0.5),
    }
