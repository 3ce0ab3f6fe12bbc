"""Transforms that change the image and leave the labels: noise, contrast, squares, compression.

Numbers are shares of the way from black to white (:mod:`nnmedseg.training.augmentation.levels`).
"""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from PIL import Image, ImageFilter

from nnmedseg.training.augmentation import draws
from nnmedseg.training.augmentation.draws import Range
from nnmedseg.training.augmentation.levels import Levels


class UnitTransform(ImageOnlyTransform):
    """Changes an image in which black is 0 and white is 1.

    Args:
        levels: Of the images.
    """

    def __init__(self, levels: Levels):
        super().__init__()
        self.levels = levels

    @abstractmethod
    def change(self, unit: torch.Tensor) -> torch.Tensor:
        """Return a changed image ``(C, H, W)``; the given one may be overwritten."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        black, span = self.levels.of(img)
        return self.change((img - black).div_(span)).mul_(span).add_(black)


class BlackSquares(ImageOnlyTransform):
    """Blacken some squares (coarse dropout) that lie wholly within the image.

    Args:
        levels: Of the images.
        count: Of the squares.
        sides: Height and width in pixels.
    """

    def __init__(self, levels: Levels, count: int, sides: tuple[int, int]):
        super().__init__()
        self.levels = levels
        self.count = count
        self.sides = sides

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        black, _ = self.levels.of(img)
        for _ in range(self.count):
            y, x = (
                draws.index(max(whole - side, 0) + 1)
                for whole, side in zip(img.shape[1:], self.sides, strict=True)
            )
            img[:, y : y + self.sides[0], x : x + self.sides[1]] = black
        return img


class AdditiveNoise(UnitTransform):
    """Add Gaussian noise, another number for each pixel and channel.

    Args:
        levels: Of the images.
        variance: One is drawn for a sample.
    """

    def __init__(self, levels: Levels, variance: Range):
        super().__init__(levels)
        self.variance = variance

    def change(self, unit: torch.Tensor) -> torch.Tensor:
        """Add the noise."""
        deviation = math.sqrt(draws.uniform(self.variance))
        return unit.add_(torch.randn(unit.shape), alpha=deviation)


class BrightnessContrast(UnitTransform):
    """Multiply and add, and cut off what is darker than black or brighter than white.

    Args:
        levels: Of the images.
        brightness: Largest summand.
        contrast: Largest distance of the factor from 1.
    """

    def __init__(self, levels: Levels, brightness: float, contrast: float):
        super().__init__(levels)
        self.brightness = brightness
        self.contrast = contrast

    def change(self, unit: torch.Tensor) -> torch.Tensor:
        """Change all channels alike."""
        factor = 1 + draws.uniform((-self.contrast, self.contrast))
        summand = draws.uniform((-self.brightness, self.brightness))
        return unit.mul_(factor).add_(summand).clamp_(0, 1)


class ByteTransform(UnitTransform):
    """Changes images of 8 bits: one of three channels in colour, of others each channel alone."""

    def change(self, unit: torch.Tensor) -> torch.Tensor:
        """Round to 8 bits, change, and return to floats."""
        pixels = unit.clamp(0, 1).mul(255).round_().to(torch.uint8).numpy()
        groups = [pixels] if len(pixels) == 3 else np.split(pixels, len(pixels))
        changed = []
        for group in groups:
            image = Image.fromarray(np.moveaxis(group, 0, -1) if len(group) == 3 else group[0])
            changed.append(np.atleast_3d(np.asarray(self.change_bytes(image))))
        joined = np.moveaxis(np.concatenate(changed, axis=2), 2, 0)
        return torch.from_numpy(np.ascontiguousarray(joined)).to(unit.dtype).div_(255)

    @abstractmethod
    def change_bytes(self, image: Image.Image) -> Image.Image:
        """Return a changed image of the same mode."""


class JPEGCompression(ByteTransform):
    """Compress as JPEG and decompress.

    Args:
        levels: Of the images.
        quality: Lowest and highest, both included.
    """

    def __init__(self, levels: Levels, quality: tuple[int, int]):
        super().__init__(levels)
        self.quality = quality

    def change_bytes(self, image: Image.Image) -> Image.Image:
        """Write and read it in memory."""
        quality = draws.one_of(range(self.quality[0], self.quality[1] + 1))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)


class MedianBlur(ByteTransform):
    """Take the median of a square around each pixel.

    Args:
        levels: Of the images.
        sizes: Of the squares' sides in pixels, of which one is drawn.
    """

    def __init__(self, levels: Levels, sizes: tuple[int, ...]):
        super().__init__(levels)
        self.sizes = sizes

    def change_bytes(self, image: Image.Image) -> Image.Image:
        """Filter each channel."""
        return image.filter(ImageFilter.MedianFilter(draws.one_of(self.sizes)))
