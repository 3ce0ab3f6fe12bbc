"""Counts of right and wrong pixels, one of each for every image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnmedseg.errors import SizeError

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Pixels of images by prediction and truth; all attributes are ``(N,)``.

    Attributes:
        true_positive: Foreground in both.
        false_positive: Foreground in the prediction only.
        false_negative: Foreground in the truth only.
        true_negative: Background in both.
    """

    true_positive: Counts
    false_positive: Counts
    false_negative: Counts
    true_negative: Counts

    @property
    def predicted(self) -> Counts:
        """Pixels that are foreground in the prediction."""
        return self.true_positive + self.false_positive

    @property
    def true(self) -> Counts:
        """Pixels that are foreground in the truth."""
        return self.true_positive + self.false_negative

    @property
    def union(self) -> Counts:
        """Pixels that are foreground in either."""
        return self.predicted + self.false_negative

    @property
    def right(self) -> Counts:
        """Pixels that are the same in both."""
        return self.true_positive + self.true_negative

    @property
    def pixels(self) -> Counts:
        """All pixels."""
        return self.union + self.true_negative

    def pooled(self) -> Confusion:
        """The pixels of all images together, as if they were one image."""
        return Confusion(
            self.true_positive.sum(keepdims=True),
            self.false_positive.sum(keepdims=True),
            self.false_negative.sum(keepdims=True),
            self.true_negative.sum(keepdims=True),
        )

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )


def confusion(predicted: npt.ArrayLike, true: npt.ArrayLike) -> Confusion:
    """Count the pixels of each image.

    Args:
        predicted: Booleans ``(N, ...)``.
        true: Booleans of the same shape.

    Raises:
        SizeError: The shapes differ.
    """
    p, t = np.asarray(predicted, bool), np.asarray(true, bool)
    check_same_shape(p, t)
    p, t = p.reshape(len(p), -1), t.reshape(len(t), -1)
    both = np.count_nonzero(p & t, axis=1)
    only_predicted = np.count_nonzero(p, axis=1) - both
    only_true = np.count_nonzero(t, axis=1) - both
    return Confusion(
        both, only_predicted, only_true, p.shape[1] - both - only_predicted - only_true
    )


def check_same_shape(predicted: npt.NDArray, true: npt.NDArray) -> None:
    """Refuse masks of different shapes, which NumPy might broadcast.

    Raises:
        SizeError: The shapes differ.
    """
    if predicted.shape != true.shape:
        raise SizeError(
            "predictions and true masks differ in shape",
            where=f"{predicted.shape} and {true.shape}",
            mend="give each prediction the mask of its image, at the same size",
        )


def ratio(
    numerator: npt.ArrayLike, denominator: npt.ArrayLike, *, undefined: float = 0.0
) -> Scores:
    """Divide element by element; ``undefined`` where the denominator is zero."""
    above, below = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    return np.divide(above, below, out=np.full(above.shape, undefined), where=below != 0)
