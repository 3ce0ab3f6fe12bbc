"""ProMISe: eight metrics of opened masks at a quarter of the image's size, averaged over images.

Masks are binary, so every metric follows from counts of pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from nnmedseg.evaluation.published._confusion import Confusion, Scores, confusion, ratio

F_BETA_SQUARED = 0.3
OPENING = 5
_EPSILON = np.finfo(np.float64).eps

Masks = npt.NDArray[np.bool_]


def predicted_masks(probabilities: npt.NDArray[np.floating]) -> Masks:
    """Foreground from 0.5 on, opened with a square of 5 x 5.

    Args:
        probabilities: ``(N, 1, H, W)``.
    """
    square = np.ones((1, 1, OPENING, OPENING), bool)
    eroded = ndimage.binary_erosion(probabilities >= 0.5, square, border_value=1)
    return ndimage.binary_dilation(eroded, square)


def true_masks(masks: npt.NDArray[np.floating], size: tuple[int, int]) -> Masks:
    """Masks ``(N, 1, H, W)`` reduced to ``size``, where anything above 0 is foreground.

    That makes them up to a pixel fatter.
    """
    images = torch.from_numpy(np.ascontiguousarray(masks, np.float32))
    return functional.interpolate(images, size, mode="bilinear").numpy() > 0


def scores(predicted: Masks, true: Masks) -> dict[str, Scores]:
    """Scores of each image.

    Args:
        predicted: ``(N, 1, H, W)``.
        true: The same shape.

    Returns:
        Arrays ``(N,)``. Dice is NaN where both masks are empty, and then so is the authors' mean;
        IoU, precision, recall and F-beta are 0 where they are undefined.

    Raises:
        SizeError: The shapes differ.
    """
    counts = confusion(predicted, true)
    precision = ratio(counts.true_positive, counts.predicted)
    recall = ratio(counts.true_positive, counts.true)
    weighted = F_BETA_SQUARED * precision + recall
    return {
        "mae": ratio(counts.pixels - counts.right, counts.pixels),
        "dice": ratio(2 * counts.true_positive, counts.predicted + counts.true, undefined=np.nan),
        "iou": ratio(counts.true_positive, counts.union),
        "precision": precision,
        "recall": recall,
        "f_beta": (1 + F_BETA_SQUARED) * precision * recall / (weighted + _EPSILON),
        "structure": structure_measure(predicted, true),
        "alignment": alignment_measure(counts),
    }


def alignment_measure(counts: Confusion) -> Scores:
    """Enhanced-alignment measure of binary masks ``(N,)``, which may exceed 1 a little."""
    n = counts.pixels
    predicted, true = counts.predicted / n, counts.true / n
    combinations = (
        (counts.true_positive, 1 - predicted, 1 - true),
        (counts.false_positive, 1 - predicted, -true),
        (counts.false_negative, -predicted, 1 - true),
        (counts.true_negative, -predicted, -true),
    )
    aligned = sum(
        count * (2 * p * t / (p**2 + t**2 + _EPSILON) + 1) ** 2 / 4 for count, p, t in combinations
    )
    aligned = np.where(counts.true == 0, n - counts.predicted, aligned)
    aligned = np.where(counts.true == n, counts.predicted, aligned)
    return aligned / (n - 1 + _EPSILON)


def structure_measure(predicted: Masks, true: Masks) -> Scores:
    """Mean of similarity inside foreground and background, and in four parts of the image.

    Args:
        predicted: ``(N, 1, H, W)``.
        true: The same shape.

    Returns:
        ``(N,)``; for a true mask without foreground the predicted share of background, for one
        without background that of foreground.
    """
    counts = confusion(predicted, true)
    share = counts.true / counts.pixels
    found = counts.predicted / counts.pixels
    by_object = share * _homogeneity(ratio(counts.true_positive, counts.true)) + (
        1 - share
    ) * _homogeneity(ratio(counts.true_negative, counts.pixels - counts.true))
    measure = np.maximum(0, (by_object + _similarity_by_part(predicted[:, 0], true[:, 0])) / 2)
    return np.where(share == 0, 1 - found, np.where(share == 1, found, measure))


def _homogeneity(mean: Scores) -> Scores:
    """How near binary values are to all ones, from their mean, which also gives their spread."""
    return 2 * mean / (mean**2 + 1 + np.sqrt(mean * (1 - mean)) + _EPSILON)


def _similarity_by_part(predicted: Masks, true: Masks) -> Scores:
    """Similarity of the four parts that meet at the true mask's centroid, weighed by their area."""
    upper, left = _before_centroid(true, axis=1), _before_centroid(true, axis=2)
    rows = np.stack([upper, upper, ~upper, ~upper], axis=1).astype(np.float64)
    columns = np.stack([left, ~left, left, ~left], axis=1).astype(np.float64)

    def pixels_in_parts(mask: Masks) -> Scores:
        return np.einsum("npr,nrc,npc->np", rows, mask, columns, optimize=True)

    area = rows.sum(2) * columns.sum(2)
    similarity = _similarity(
        area, pixels_in_parts(predicted), pixels_in_parts(true), pixels_in_parts(predicted & true)
    )
    return (area * similarity).sum(1) / area.sum(1)


def _before_centroid(true: Masks, *, axis: int) -> Masks:
    """Which rows (axis 1) or columns (axis 2) lie before the centroid, ``(N, length)``."""
    numbers = np.arange(1, true.shape[axis] + 1)
    foreground = true.sum(axis=3 - axis)
    centroid = np.rint(ratio(foreground @ numbers, foreground.sum(1)))
    return numbers <= centroid[:, None]


def _similarity(n: Scores, predicted: Scores, true: Scores, both: Scores) -> Scores:
    """Structural similarity of binary maps of ``n`` pixels from their counts of ones."""
    freedom = n - 1 + _EPSILON
    mean_p, mean_t = ratio(predicted, n), ratio(true, n)
    covariance = ratio(n * both - predicted * true, n * freedom)
    variances = ratio(predicted * (n - predicted) + true * (n - true), n * freedom)
    above = 4 * mean_p * mean_t * covariance
    below = (mean_p**2 + mean_t**2) * variances
    return np.where(above != 0, above / (below + _EPSILON), below == 0)
