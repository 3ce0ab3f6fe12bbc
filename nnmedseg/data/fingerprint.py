"""Intensity statistics of the foreground of a data set, from histograms.

nnU-Net draws 10^8 foreground samples whatever the size of the data. A histogram of an 8-bit image
holds the same information exactly in 256 numbers. The cases' histograms are merged as they come,
so that memory does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST_WHOLE_NUMBER = 2**17
"""Whole numbers below it are counted one by one: 16-bit images, Hounsfield units of either sign."""
LEADING_BITS = 20
"""Of other numbers those that agree in the sign, the exponent and the first 11 bits of the mantissa
are counted together, which is exact to 0.025 %."""
PIXELS_AT_ONCE = 2**20
NAMES = ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")


@dataclass(frozen=True)
class Distribution:
    """Intensities of one channel of one case.

    Attributes:
        bins: Which numbers occur, shape ``(K,)``: whole numbers themselves, of others the leading
            bits of the float32 number.
        shares: Of the pixels, for each bin, shape ``(K,)``.
        whole: The numbers are whole.
        lowest: The smallest number.
        highest: The largest number.
        mean: Of all pixels.
        mean_square: Mean of the squares.
    """

    bins: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    whole: bool
    lowest: float
    highest: float
    mean: float
    mean_square: float

    @classmethod
    def of_pixels(cls, pixels: npt.NDArray[np.generic]) -> Distribution | None:
        """Return the distribution of pixels ``(P,)``, or ``None`` if there are none."""
        if pixels.size == 0:
            return None
        lowest, highest = float(pixels.min()), float(pixels.max())
        largest = max(abs(lowest), abs(highest))
        if largest < LARGEST_WHOLE_NUMBER and all(
            np.array_equal(np.trunc(part), part) for part in _parts(pixels)
        ):
            return cls.of_counts(
                _count_whole_numbers(pixels, int(lowest), int(highest)), int(lowest)
            )
        counts, total, squares = np.zeros(2**LEADING_BITS, np.int64), 0.0, 0.0
        for part in _parts(pixels):
            counts += np.bincount(_leading_bits(part), minlength=len(counts))
            exact = part.astype(np.float64)
            total += float(exact.sum())
            squares += float(exact @ exact)
        bins = np.flatnonzero(counts)
        size = pixels.size
        return cls(bins, counts[bins] / size, False, lowest, highest, total / size, squares / size)

    @classmethod
    def of_counts(cls, counts: npt.NDArray[np.integer], lowest: int = 0) -> Distribution | None:
        """Return the distribution of whole numbers.

        Args:
            counts: How many pixels there are of each number, the first of them ``lowest``.
            lowest: May be below the smallest number that occurs.
        """
        present = np.flatnonzero(counts)
        if present.size == 0:
            return None
        bins = present + lowest
        shares = counts[present] / counts[present].sum()
        values = bins.astype(np.float64)
        return cls(
            bins,
            shares,
            True,
            float(bins[0]),
            float(bins[-1]),
            float(shares @ values),
            float(shares @ values**2),
        )


class IntensityStatistics:
    """Merges the distributions of one channel; each case that has foreground weighs the same."""

    def __init__(self) -> None:
        self._cases = 0
        self._lowest, self._highest = np.inf, -np.inf
        self._mean = self._mean_square = 0.0
        self._whole: npt.NDArray[np.float64] | None = None
        self._leading: npt.NDArray[np.float64] | None = None

    def add(self, case: Distribution | None) -> None:
        """Take a case into account; ``None`` is one without foreground."""
        if case is None:
            return
        self._cases += 1
        self._lowest = min(self._lowest, case.lowest)
        self._highest = max(self._highest, case.highest)
        self._mean += (case.mean - self._mean) / self._cases
        self._mean_square += (case.mean_square - self._mean_square) / self._cases
        if case.whole:
            if self._whole is None:
                self._whole = np.zeros(2 * LARGEST_WHOLE_NUMBER)
            self._whole[case.bins + LARGEST_WHOLE_NUMBER] += case.shares
        else:
            if self._leading is None:
                self._leading = np.zeros(2**LEADING_BITS)
            self._leading[case.bins] += case.shares

    def summary(self) -> dict[str, float]:
        """Return nnU-Net's statistics, or zeros if no case has foreground."""
        if not self._cases:
            return dict.fromkeys(NAMES, 0.0)
        values, weights = self._sorted()
        ranks = np.cumsum(weights) / self._cases

        def percentile(share: float) -> float:
            index = min(int(np.searchsorted(ranks, share / 100 - 1e-12)), len(values) - 1)
            return float(np.clip(values[index], self._lowest, self._highest))

        return {
            "mean": self._mean,
            "median": percentile(50),
            "std": float(np.sqrt(max(0.0, self._mean_square - self._mean**2))),
            "min": self._lowest,
            "max": self._highest,
            "percentile_99_5": percentile(99.5),
            "percentile_00_5": percentile(0.5),
        }

    def _sorted(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the values that occur in ascending order, and their weights."""
        values, weights = [], []
        if self._whole is not None:
            present = np.flatnonzero(self._whole)
            values.append((present - LARGEST_WHOLE_NUMBER).astype(np.float64))
            weights.append(self._whole[present])
        if self._leading is not None:
            present = np.flatnonzero(self._leading)
            values.append(_middle_of(present))
            weights.append(self._leading[present])
        both = np.concatenate(values)
        order = np.argsort(both, kind="stable")
        return both[order], np.concatenate(weights)[order]


def _parts(pixels: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    for start in range(0, pixels.size, PIXELS_AT_ONCE):
        yield pixels[start : start + PIXELS_AT_ONCE]


def _count_whole_numbers(
    pixels: npt.NDArray[np.generic], lowest: int, highest: int
) -> npt.NDArray[np.int64]:
    counts = np.zeros(highest - lowest + 1, np.int64)
    for part in _parts(pixels):
        counts += np.bincount(part.astype(np.int64) - lowest, minlength=len(counts))
    return counts


def _leading_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    bits = pixels.astype(np.float32, copy=False).view(np.uint32)
    return (bits >> (32 - LEADING_BITS)).astype(np.int64)


def _middle_of(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the number in the middle of those that have these leading bits."""
    rest = 32 - LEADING_BITS
    bits = (bins.astype(np.uint32) << rest) + np.uint32(1 << (rest - 1))
    return bits.view(np.float32).astype(np.float64)
