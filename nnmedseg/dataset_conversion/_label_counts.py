"""How often each label is there: for the record of a case, and to find labels nobody named."""

from __future__ import annotations

import numpy as np

from nnmedseg.dataset_conversion._case_files import Record


def describe_labels(labels: np.ndarray) -> Record:
    """Return how many pixels (or voxels) each label and the foreground have.

    Args:
        labels: (H, W) or (Z, Y, X), whole numbers from zero.
    """
    counts = count_labels(labels)
    foreground = int(counts[1:].sum())
    return {
        "foreground_pixels": foreground,
        "foreground_share": foreground / labels.size,
        "label_pixels": {str(n): int(counts[n]) for n in np.flatnonzero(counts) if n},
    }


def count_labels(labels: np.ndarray) -> np.ndarray:
    """Return how often each label from zero to the largest is there, (labels,) of int64.

    Args:
        labels: (H, W) or (Z, Y, X), whole numbers from zero.
    """
    largest = int(labels.max())
    if largest <= 1:  # most masks, for which this takes a thirtieth of the time
        foreground = np.count_nonzero(labels)
        return np.array([labels.size - foreground, foreground], np.int64)[: largest + 1]
    counts = np.zeros(largest + 1, np.int64)
    # Counting makes 64-bit copies: of one plane at a time.
    for plane in labels if labels.ndim == 3 else labels[None]:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    return counts
