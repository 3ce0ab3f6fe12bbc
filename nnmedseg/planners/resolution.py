"""At which resolution to work on images that have no physical spacing.

nnU-Net plans photographs at their own resolution. Dermoscopy images have up to 6748 x 4499 pixels
with one lesion that fills the frame, so its patches see a corner of the lesion. Here the median
image is brought to a working size at which one patch sees all of it. The aspect ratio is kept and
predictions come back at each image's own size, because the working size is nothing but a target
spacing in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

NATURAL_IMAGE_SPACING = 999  # what nnU-Net's reader reports across the one slice of a 2D image
DEFAULT_WORKING_SIZE = 256  # at which the papers report


@dataclass(frozen=True)
class WorkingResolution:
    """The pixel spacing to work at and why.

    Attributes:
        pixel_spacing: Original pixels for each working pixel, along both axes.
        reason: The choice in a sentence, written into the plans.
    """

    pixel_spacing: float
    reason: str


def is_natural(spacings: Sequence[Sequence[float]]) -> bool:
    """Tell whether the images are photographs without a physical spacing."""
    return all(spacing[0] == NATURAL_IMAGE_SPACING for spacing in spacings)


def choose_working_resolution(
    shapes: Sequence[Sequence[int]], working_size: int | None
) -> WorkingResolution:
    """Choose the pixel spacing at which the median image's shorter side has the working size.

    Images are never enlarged, unless a working size was asked for.

    Args:
        shapes: ``(1, H, W)`` of each image.
        working_size: The shorter side in pixels, or ``None`` for 256 at most.
    """
    height = median(shape[1] for shape in shapes)
    width = median(shape[2] for shape in shapes)
    spacing = min(height, width) / (working_size or DEFAULT_WORKING_SIZE)
    images = f"images are {height:.0f}x{width:.0f} in the median"
    if working_size is None and spacing <= 1:
        return WorkingResolution(1.0, f"{images}, small enough to be used as they are")
    working = f"{height / spacing:.0f}x{width / spacing:.0f}"
    return WorkingResolution(spacing, f"{images}; they are brought to {working} pixels")
