"""What post-processing does to the mask of one label, as functions from mask to mask.

All of them take ``(mask, spacing, size)``, a boolean array of two or three dimensions with the
distance of its pixels along each axis and a number whose meaning is that of the step, and return a
new mask of the same shape. Regions touch along faces, edges or corners, as nnU-Net and most papers
count them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
MaskStep = Callable[[Mask, Sequence[float], float], Mask]


def keep_largest(mask: Mask, _spacing: Sequence[float] = (), _size: float = 0.0) -> Mask:
    """Keep the largest connected region."""
    regions, areas = connected_regions(mask)
    return mask.copy() if len(areas) < 2 else regions == 1 + int(areas.argmax())


def remove_small(mask: Mask, spacing: Sequence[float], size: float) -> Mask:
    """Remove connected regions smaller than ``size``, an area or volume in units of the spacing."""
    return _regions_from(mask, size / math.prod(spacing))


def fill_holes(mask: Mask, _spacing: Sequence[float] = (), _size: float = 0.0) -> Mask:
    """Add all that is enclosed by the mask: what no way over faces leads to from the border."""
    filled = mask.copy()
    # A hole is enclosed by one region, and by no fewer pixels than its single pixel has faces.
    regions = _regions_from(mask, 2 * mask.ndim)
    box = bounding_box(regions)
    if box is not None:
        around = np.pad(~regions[box], 1, constant_values=True)
        outside, _ = ndimage.label(around)
        inner = (slice(1, -1),) * mask.ndim
        filled[box] |= outside[inner] != outside.flat[0]
    return filled


def opening(mask: Mask, spacing: Sequence[float], size: float) -> Mask:
    """Remove what a disc or ball of the radius ``size`` does not fit into.

    The mask may go on beyond the border, as in ProMISe's code: nothing is lost there.
    """
    radii = kernel_radii(spacing, size)
    opened = np.zeros_like(mask)
    # The kernel fits into one region only, and at the border with an octant of it.
    regions = _regions_from(mask, math.prod(radius + 1 for radius in radii) / 2**mask.ndim)
    box = bounding_box(regions)
    if box is not None:
        opened[box] = _dilate(_erode(regions[box], radii), radii) & mask[box]
    return opened


def closing(mask: Mask, spacing: Sequence[float], size: float) -> Mask:
    """Add what a disc or ball of the radius ``size`` outside of the mask does not reach.

    Nothing is taken to be beyond the border, so that nothing grows towards it.
    """
    radii = kernel_radii(spacing, size)
    room = [(radius + 1, radius + 1) for radius in radii]
    inner = tuple(slice(before, -after) for before, after in room)
    return _erode(_dilate(np.pad(mask, room), radii), radii)[inner]


STEPS: dict[str, MaskStep] = {
    "keep_largest": keep_largest,
    "remove_small": remove_small,
    "fill_holes": fill_holes,
    "opening": opening,
    "closing": closing,
}


def connected_regions(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Number the connected regions of a mask.

    Returns:
        For each pixel the number of its region, 0 outside, and how many pixels each region from 1
        has.
    """
    regions, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return regions, np.bincount(regions[mask], minlength=count + 1)[1:]


def _regions_from(mask: Mask, least: float) -> Mask:
    """Return a mask without the connected regions of fewer than ``least`` pixels."""
    regions, areas = connected_regions(mask)
    kept = np.concatenate([[False], areas >= least])
    remaining = np.zeros_like(mask)
    remaining[mask] = kept[regions[mask]]
    return remaining


def kernel_radii(spacing: Sequence[float], size: float) -> list[int]:
    """Return the radius of a kernel in pixels along each axis."""
    return [round(size / distance) for distance in spacing]


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Return the box that holds a mask and the pixels around it, ``None`` if the mask is empty."""
    return box_around(ndimage.find_objects(mask.view(np.uint8)), mask.shape)


def box_around(
    boxes: Sequence[tuple[slice, ...]], shape: Sequence[int]
) -> tuple[slice, ...] | None:
    """Return the box that holds all boxes and the pixels around them, ``None`` if there are none.

    With these pixels in it, its border is none to a mask, unless it is that of the image.
    """
    if not boxes:
        return None
    return tuple(
        slice(
            max(min(side.start for side in sides) - 1, 0),
            min(max(side.stop for side in sides) + 1, length),
        )
        for sides, length in zip(zip(*boxes, strict=True), shape, strict=True)
    )


def _erode(mask: Mask, radii: Sequence[int]) -> Mask:
    return _with_simpleitk(SimpleITK.BinaryErode, mask, radii, boundary_is_foreground=True)


def _dilate(mask: Mask, radii: Sequence[int]) -> Mask:
    return _with_simpleitk(SimpleITK.BinaryDilate, mask, radii, boundary_is_foreground=False)


def _with_simpleitk(
    operation: Callable[..., SimpleITK.Image],
    mask: Mask,
    radii: Sequence[int],
    *,
    boundary_is_foreground: bool,
) -> Mask:
    """Run ITK's morphology, whose time hardly grows with the kernel.

    Its ball holds the pixels whose distance along the axes, each divided by its radius + 0.5, have
    squares that sum up to 1 at most: of radius 1 in a plane it is a square of 3 x 3 pixels, of
    radius 2 one of 5 x 5 without its corners.
    """
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask).view(np.uint8))
    kernel_radius = [int(radius) for radius in reversed(radii)]
    result = operation(
        image, kernel_radius, SimpleITK.sitkBall, 0, 1, boundary_is_foreground
    )  # fmt: skip
    return SimpleITK.GetArrayViewFromImage(result).astype(np.bool_)
