"""The region that nnU-Net crops volumes to, found without filling holes of the whole volume."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import (
    bounding_box_to_slice,
    get_bbox_from_mask,
)
from scipy import ndimage

OUTSIDE = -1
"""nnU-Net's label of voxels around the object."""
WORTH_COMPILING = 2**22
"""Voxels from which on SciPy's search takes longer than loading a faster one."""


def crop_to_nonzero(
    data: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Return what nnU-Net's function of this name does.

    nnU-Net fills holes first and crops then. Holes lie inside, so that the box is the same before
    and after filling; and where no face of the box shows a zero, there is nothing outside.

    Args:
        data: (C, Z, Y, X).
        labels: (1, Z, Y, X) int16, is changed; ``None`` if there are none.

    Returns:
        View of the data; labels, (1, Z, Y, X) int16, with ``OUTSIDE`` where they are 0 and all
        channels are 0 from there to the border; and the bounding box.
    """
    nonzero = data[0] != 0
    for channel in data[1:]:
        nonzero |= channel != 0
    box = get_bbox_from_mask(nonzero)
    region = bounding_box_to_slice(box)
    nonzero = nonzero[region]
    all_channels = (slice(None), *region)
    data = data[all_channels]
    labels = np.zeros((1, *nonzero.shape), np.int16) if labels is None else labels[all_channels]
    if not _faces_are_nonzero(nonzero):
        _mark_outside(nonzero, labels[0])
    return data, labels, box


def _mark_outside(nonzero: np.ndarray, labels: np.ndarray) -> None:
    """Set ``OUTSIDE`` in ``labels`` where they are 0 and ``nonzero`` is false up to a face."""
    if nonzero.size < WORTH_COMPILING or find_spec("numba") is None:
        labels[(labels == 0) & ~ndimage.binary_fill_holes(nonzero)] = OUTSIDE
        return
    from nnmedseg.nnunet._outside_kernels import mark_outside  # noqa: PLC0415 - takes a second

    mark_outside(np.ascontiguousarray(nonzero), labels, OUTSIDE)


def _faces_are_nonzero(nonzero: np.ndarray) -> bool:
    """Say whether the array is true all over its surface."""
    return all(
        bool(nonzero.take(index, axis=axis).all())
        for axis in range(nonzero.ndim)
        for index in (0, -1)
    )
