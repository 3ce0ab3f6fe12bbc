"""Where black and white lie in an image that has already been normalised.

The papers' code draws its augmentation on images of 0 to 255 (or 0 to 1) and normalises them
afterwards. Here images are stored normalised, so that "filled with 0" has to become the number that
0 has been turned into, and "a tenth brighter" a tenth of the way from black to white.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nnmedseg.data.intensities import IMAGENET_DEVIATION, IMAGENET_MEAN

_RANGES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "min_max_255": ((0.0,), (255.0,)),
    "divided_by_255": ((0.0,), (1.0,)),
    "imagenet": (
        tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)),
        tuple(
            (1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
        ),
    ),
    "synapse": ((-1.0,), (1.0,)),
}
"""What 0 and the largest value become, for each channel or for all of them."""


@dataclass(frozen=True)
class Levels:
    """Black and white of the images of a data set.

    Attributes:
        intensity: One of :data:`nnmedseg.data.intensities.INTENSITIES`, or ``None`` for nnU-Net's
            normalisation, after which the darkest and the brightest value of each channel of the
            image itself stand for black and white.
    """

    intensity: str | None = None

    def of(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return black, and the way from black to white.

        Args:
            image: ``(C, H, W)``.

        Returns:
            Two tensors that can be added to an image and multiplied with it.
        """
        if self.intensity is not None:
            black, white = (
                torch.tensor(values, dtype=image.dtype).view(-1, 1, 1)
                for values in _RANGES[self.intensity]
            )
            return black, white - black
        darkest, brightest = torch.aminmax(image.flatten(1), dim=1)
        span = brightest - darkest
        span[span == 0] = 1
        return darkest.view(-1, 1, 1), span.view(-1, 1, 1)
