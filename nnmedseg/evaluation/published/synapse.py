"""HeteroMedSeg on Synapse: Dice and HD95 of whole volumes, in voxels.

No spacing is used, so the published "mm" are voxels. Slices become the network's input by a cubic
spline and its labels go back by nearest neighbour, both with the corner pixels aligned; there is
neither test-time augmentation nor any post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnmedseg.data.synapse import ORGANS
from nnmedseg.evaluation.published._confusion import Scores, check_same_shape
from nnmedseg.evaluation.published._surface import hd95


def network_input(image: npt.NDArray[np.floating], side: int = 224) -> npt.NDArray[np.float32]:
    """A slice as the network is fed it.

    Args:
        image: Slice ``(H, W)`` of values in [0, 1].
        side: Height and width of the input.

    Returns:
        ``(1, 1, side, side)``, values mapped to about [-1, 1]; the spline may overshoot.
    """
    resized = _zoomed(image, (side, side), order=3)
    return ((resized - 0.5) / 0.5).astype(np.float32)[None, None]


def resized_labels(
    labels: npt.NDArray[np.integer], shape: tuple[int, int]
) -> npt.NDArray[np.integer]:
    """Labels ``(H, W)`` at another size: for training, or a prediction back at its slice's."""
    return _zoomed(labels, shape, order=0)


def _zoomed(values: npt.NDArray, shape: tuple[int, int], *, order: int) -> npt.NDArray:
    if values.shape == shape:
        return values
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    return ndimage.zoom(values, factors, order=order)


def dice_and_hd95(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Scores:
    """Dice and HD95 in voxels of two masks ``(D, H, W)``; both NaN when one is empty."""
    sizes = np.count_nonzero(predicted), np.count_nonzero(true)
    dice = 2 * np.count_nonzero(predicted & true) / sum(sizes) if all(sizes) else math.nan
    return np.array([dice, hd95(predicted, true)])


def scores(
    prediction: npt.NDArray[np.integer],
    label: npt.NDArray[np.integer],
    num_classes: int = len(ORGANS),
) -> Scores:
    """Dice and HD95 of every class of one volume.

    Where the truth is empty and the prediction is not, they are (1, 0); where the prediction is
    empty, they are (0, 0), even if the truth is empty too.

    Args:
        prediction: Class numbers ``(D, H, W)``, 0 the background.
        label: True class numbers of the same shape.
        num_classes: Classes without the background.

    Returns:
        ``(num_classes, 2)``, see `mean_scores`.

    Raises:
        SizeError: The shapes differ.
    """
    check_same_shape(prediction, label)
    return np.array([_scored(prediction == k, label == k) for k in range(1, num_classes + 1)])


def mean_scores(volumes: Sequence[Scores]) -> tuple[Scores, Scores]:
    """What the paper's table holds.

    Args:
        volumes: The `scores` of each test volume.

    Returns:
        Mean over the volumes of every class ``(num_classes, 2)``, and its mean over the classes
        ``(2,)``.
    """
    classes = np.mean(volumes, axis=0)
    return classes, classes.mean(axis=0)


def _scored(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Scores:
    if not predicted.any():
        return np.array([0.0, 0.0])
    if not true.any():
        return np.array([1.0, 0.0])
    return dice_and_hd95(predicted, true)
