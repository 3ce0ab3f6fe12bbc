"""To which size an image is brought before a network sees it."""

from __future__ import annotations


def working_shape(shape: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Return the height and width at which the shorter side is as long as wanted, aspect kept.

    Args:
        shape: Height and width of the image in pixels.
        shorter_side: Length of the shorter side afterwards, in pixels.
    """
    height, width = shape
    factor = shorter_side / min(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))
