"""ConDSeg: means over test images of the foreground's scores, at 256 x 256.

The authors add 1e-15 above and below every fraction. So an empty prediction has precision 1, an
empty mask recall 1, and two empty ones score 1 throughout.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnmedseg.evaluation.published._confusion import Scores, confusion

_EPSILON = 1e-15


def scores(
    probabilities: npt.NDArray[np.floating], masks: npt.NDArray[np.floating]
) -> dict[str, Scores]:
    """Scores of each image.

    Args:
        probabilities: Predictions ``(N, ...)``, foreground above 0.5.
        masks: True masks of the same shape, foreground above 0.5.

    Returns:
        Arrays ``(N,)``; the paper's table holds their means.

    Raises:
        SizeError: The shapes differ.
    """
    counts = confusion(probabilities > 0.5, masks > 0.5)
    recall = _smoothed(counts.true_positive, counts.true)
    precision = _smoothed(counts.true_positive, counts.predicted)
    return {
        "iou": _smoothed(counts.true_positive, counts.union),
        "dice": _smoothed(2 * counts.true_positive, counts.predicted + counts.true),
        "recall": recall,
        "precision": precision,
        "accuracy": counts.right / counts.pixels,
        "f2": 5 * precision * recall / (4 * precision + recall + _EPSILON),
    }


def _smoothed(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> Scores:
    return (numerator + _EPSILON) / (denominator + _EPSILON)
