"""Contrast-limited adaptive histogram equalisation (CLAHE), as OpenCV computes it.

scikit-image's stretches an image from its darkest to its brightest value before and after, which
changes far more of it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from nnmedseg.training.augmentation import draws
from nnmedseg.training.augmentation.appearance import ByteTransform
from nnmedseg.training.augmentation.levels import Levels

TILES = 8
"""Along each axis."""

BINS = 256
_Bytes = npt.NDArray[np.uint8]


class LocalEqualization(ByteTransform):
    """Equalise lightness in tiles, between which it is interpolated.

    Args:
        levels: Of the images.
        clip_limit: How many times the mean a bin of a histogram counts at most; a number from 1 up
            to it is drawn.
    """

    def __init__(self, levels: Levels, clip_limit: float):
        super().__init__(levels)
        self.clip_limit = clip_limit

    def change_bytes(self, image: Image.Image) -> Image.Image:
        """Equalise the lightness of a colour image, or a grey image."""
        limit = draws.uniform((1, self.clip_limit))
        if image.mode != "RGB":
            return Image.fromarray(equalize(np.asarray(image), limit))
        to_lab, to_rgb = _colour_transforms()
        lightness, *colours = to_lab.apply(image).split()
        changed = Image.fromarray(equalize(np.asarray(lightness), limit))
        return to_rgb.apply(Image.merge("LAB", (changed, *colours)))


@cache
def _colour_transforms() -> tuple[ImageCms.ImageCmsTransform, ImageCms.ImageCmsTransform]:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return (
        ImageCms.buildTransform(rgb, lab, "RGB", "LAB"),
        ImageCms.buildTransform(lab, rgb, "LAB", "RGB"),
    )


def equalize(plane: _Bytes, limit: float) -> _Bytes:
    """Equalise a plane ``(H, W)`` with 8 x 8 tiles.

    Args:
        plane: Grey levels.
        limit: How many times the mean a bin counts at most.
    """
    height, width = plane.shape
    margins = [(0, -side % TILES) for side in plane.shape]
    padded = np.pad(plane, margins, "reflect")
    sides = [side // TILES for side in padded.shape]
    tables = _tables(padded, sides, limit)
    (top, bottom, share_y), (left, right, share_x) = (
        _neighbours(length, side) for length, side in zip((height, width), sides, strict=True)
    )
    share_y = share_y[:, None]
    upper, lower = (
        tables[rows[:, None], left, plane] * (1 - share_x)
        + tables[rows[:, None], right, plane] * share_x
        for rows in (top, bottom)
    )
    return np.rint(upper * (1 - share_y) + lower * share_y).astype(np.uint8)


def _tables(plane: _Bytes, sides: list[int], limit: float) -> npt.NDArray[np.float32]:
    """Return what each tile turns each grey level into: ``(TILES, TILES, BINS)``."""
    area = sides[0] * sides[1]
    tiles = plane.reshape(TILES, sides[0], TILES, sides[1]).swapaxes(1, 2).reshape(-1, area)
    offsets = BINS * np.arange(len(tiles))[:, None]
    counts = np.bincount((tiles + offsets).ravel(), minlength=BINS * len(tiles))
    counts = counts.reshape(-1, BINS).astype(np.float64)
    most = max(int(limit * area / BINS), 1)
    excess = (counts - most).clip(min=0).sum(axis=1, keepdims=True)
    counts = counts.clip(max=most) + excess / BINS
    levels = np.rint(counts.cumsum(axis=1) * ((BINS - 1) / area))
    return levels.clip(0, BINS - 1).astype(np.float32).reshape(TILES, TILES, BINS)


def _neighbours(
    length: int, side: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each pixel along an axis the tiles before and after, and the latter's share."""
    position = np.arange(length) / side - 0.5
    before = np.floor(position).astype(np.intp)
    share = (position - before).astype(np.float32)
    return before.clip(0), (before + 1).clip(max=TILES - 1), share
