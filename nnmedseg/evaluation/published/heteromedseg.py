"""HeteroMedSeg on its binary data sets (ISIC-2018, CVC-ClinicDB, rectal cancer).

Each image is scored alone at the network's size, 256 or 224; the paper gives mean and population
standard deviation over the images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnmedseg.evaluation.published._confusion import Scores, confusion, ratio
from nnmedseg.evaluation.published._surface import hd95


def scores(
    probabilities: npt.NDArray[np.floating], masks: npt.NDArray[np.floating]
) -> dict[str, Scores]:
    """Scores of each image.

    Args:
        probabilities: Predictions ``(N, ...)``, foreground from 0.5 on.
        masks: True masks of the same shape; truncated to integers, so only 1 is foreground.

    Returns:
        Arrays ``(N,)``. IoU and Dice have 1 added above and below, so two empty masks score 1;
        precision, recall and F1 are 0 where they are undefined.

    Raises:
        SizeError: The shapes differ.
    """
    counts = confusion(probabilities >= 0.5, masks >= 1)
    sides = counts.predicted + counts.true
    return {
        "iou": ratio(counts.true_positive + 1, counts.union + 1),
        "dice": ratio(2 * counts.true_positive + 1, sides + 1),
        "accuracy": ratio(counts.right, counts.pixels),
        "precision": ratio(counts.true_positive, counts.predicted),
        "recall": ratio(counts.true_positive, counts.true),
        "f1": ratio(2 * counts.true_positive, sides),
    }


def hd95_of_contours(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """HD95 of two masks ``(H, W)`` in pixels; NaN when one is empty."""
    return hd95(predicted, true)


def hd95_of_regions(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """HD95 as the authors' rectal-cancer test takes it, which is much smaller.

    They give MedPy arrays ``(1, 1, H, W)``. Along axes of length one every pixel lies at a border,
    so it is a percentile of distances between filled regions. Their code stops at an empty mask;
    here it gives NaN.
    """
    return hd95(predicted[None, None], true[None, None])
