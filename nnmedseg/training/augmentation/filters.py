"""Filters of 3 x 3 or 5 x 5 pixels, drawn anew for each sample; the labels stay."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from torch.nn.functional import conv2d, pad

from nnmedseg.training.augmentation import draws
from nnmedseg.training.augmentation.appearance import UnitTransform
from nnmedseg.training.augmentation.draws import Range
from nnmedseg.training.augmentation.levels import Levels

SIZES = (3, 5)
_Kernel = npt.NDArray[np.float64]


def filtered(image: torch.Tensor, kernel: _Kernel) -> torch.Tensor:
    """Correlate each channel ``(C, H, W)`` with a kernel; the image goes on mirrored outside."""
    margin = len(kernel) // 2
    weights = torch.from_numpy(kernel).to(image.dtype)[None, None]
    return conv2d(pad(image[:, None], [margin] * 4, "reflect"), weights)[:, 0]


class _KernelTransform(ImageOnlyTransform):
    """Filters with a kernel whose numbers sum up to 1: black and white do not matter."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return filtered(img, self.draw_kernel())

    @abstractmethod
    def draw_kernel(self) -> _Kernel:
        """Return a kernel of odd sides."""


class BoxBlur(_KernelTransform):
    """Take the mean of a square."""

    def draw_kernel(self) -> _Kernel:
        """Draw the square's size."""
        size = draws.one_of(SIZES)
        return np.full((size, size), size**-2.0)


class GaussianBlur(_KernelTransform):
    """Blur with the deviation that OpenCV derives from a kernel's size."""

    def draw_kernel(self) -> _Kernel:
        """Draw the size."""
        size = draws.one_of(SIZES)
        deviation = 0.3 * ((size - 1) / 2 - 1) + 0.8
        line = np.exp(-0.5 * ((np.arange(size) - size // 2) / deviation) ** 2)
        return np.outer(line, line) / line.sum() ** 2


class MotionBlur(_KernelTransform):
    """Blur along a line between two pixels of the kernel."""

    def draw_kernel(self) -> _Kernel:
        """Draw the size and two different pixels."""
        size = draws.one_of(SIZES)
        first, last = draws.several(2, of=size**2)
        (y, x), (y2, x2) = divmod(first, size), divmod(last, size)
        steps = max(abs(y2 - y), abs(x2 - x)) + 1
        rows = np.round(np.linspace(y, y2, steps)).astype(int)
        columns = np.round(np.linspace(x, x2, steps)).astype(int)
        kernel = np.zeros((size, size))
        kernel[rows, columns] = 1 / steps
        return kernel


class Sharpen(UnitTransform):
    """Blend the image with a sharpened one.

    Args:
        levels: Of the images.
        share: Of the sharpened image.
        lightness: Weight of the middle pixel beyond the 8 that would leave only edges.
    """

    def __init__(self, levels: Levels, share: Range, lightness: Range):
        super().__init__(levels)
        self.share = share
        self.lightness = lightness

    def change(self, unit: torch.Tensor) -> torch.Tensor:
        """Filter, and cut off what is darker than black or brighter than white."""
        share, lightness = draws.uniform(self.share), draws.uniform(self.lightness)
        kernel = np.full((3, 3), -share)
        kernel[1, 1] = 1 - share + share * (8 + lightness)
        return filtered(unit, kernel).clamp_(0, 1)
