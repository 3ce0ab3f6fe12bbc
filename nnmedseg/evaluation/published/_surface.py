"""Distance between the borders of two masks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from medpy.metric import binary
from scipy import ndimage


def hd95(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """The 95th percentile of both directed border distances together, in pixels (MedPy's).

    Args:
        predicted: Mask of any number of axes.
        true: Mask of the same shape.

    Returns:
        The distance; NaN when a mask is empty.
    """
    if not (predicted.any() and true.any()):
        return math.nan
    # What lies outside both masks changes no distance, and takes most of the time.
    (window,) = ndimage.find_objects((predicted | true).astype(np.uint8))
    return float(binary.hd95(predicted[window], true[window]))
