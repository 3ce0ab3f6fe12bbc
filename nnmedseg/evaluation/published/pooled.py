"""RoSPER-Net and ASC-Seg: all pixels of all test images in one confusion matrix.

They score the finest output at 256 x 256, with masks resized to that. Their "mIoU" is the
foreground's IoU, not a mean over classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnmedseg.evaluation.published._confusion import Confusion, confusion, ratio

F_BETA_SQUARED = 0.3


def count(probabilities: npt.NDArray[np.floating], masks: npt.NDArray[np.floating]) -> Confusion:
    """Count the pixels of some images together; the counts of further images can be added.

    Args:
        probabilities: Predictions ``(N, ...)``, foreground from 0.5 on.
        masks: True masks of the same shape, foreground from 0.5 on.

    Raises:
        SizeError: The shapes differ.
    """
    return confusion(probabilities >= 0.5, masks >= 0.5).pooled()


def scores(counts: Confusion) -> dict[str, float]:
    """Scores of the pooled pixels; one whose denominator is zero is 0."""
    precision = ratio(counts.true_positive, counts.predicted)
    sensitivity = ratio(counts.true_positive, counts.true)
    weighted = F_BETA_SQUARED * precision + sensitivity
    found = {
        "iou": ratio(counts.true_positive, counts.union),
        "dice": ratio(2 * counts.true_positive, counts.predicted + counts.true),
        "accuracy": ratio(counts.right, counts.pixels),
        "specificity": ratio(counts.true_negative, counts.pixels - counts.true),
        "sensitivity": sensitivity,
        "precision": precision,
        "f_beta": ratio((1 + F_BETA_SQUARED) * precision * sensitivity, weighted),
    }
    return {name: value.item() for name, value in found.items()}
