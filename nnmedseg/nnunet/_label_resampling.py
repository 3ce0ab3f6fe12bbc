"""Linear resampling of label maps, the same as nnU-Net's, in one pass over the voxels.

batchgenerators resizes one map of zeros and ones for each label and gives a voxel to the label
whose map is largest there. Only the labels of its eight neighbours can be that, and nearly
everywhere these are all the same.
"""

from __future__ import annotations

import numpy as np

from nnmedseg.nnunet import _label_kernels as kernels
from nnmedseg.nnunet._grid_positions import linear_taps, picked_taps


def resize_labels(volume: np.ndarray, shape: tuple[int, ...], slice_axis: int | None) -> np.ndarray:
    """Resize as ``resize_segmentation`` of batchgenerators with order 1.

    Args:
        volume: (Z, Y, X) int16, labels from -1.
        shape: New size.
        slice_axis: Axis along which the nearest slice is taken instead of interpolating.

    Returns:
        (Z', Y', X') int16.
    """
    taps = [
        tuple((picked_taps if axis == slice_axis else linear_taps)(old, new))
        for axis, (old, new) in enumerate(zip(volume.shape, shape, strict=True))
    ]
    out = np.empty(tuple(shape), np.int16)
    kernels.resize(np.ascontiguousarray(volume), *taps, out)
    return out
