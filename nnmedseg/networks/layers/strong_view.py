"""The strongly augmented copy of an image that ConDSeg's first stage compares with the image.

Only intensities change, so that one mask serves both. As the authors have it: colour jitter, grey
with probability 0.5, and a blur that is vertical only, because their kernel is 1 wide and 7 tall.
What differs from their code: each image has a draw of its own, where theirs has one for the whole
batch; and colours are red, green, blue, so that their luminances weigh the greys, where theirs were
blue, green, red.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nnmedseg.ops._precision import at_least_float32, without_autocast

_JITTER = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1}
_GREY_PROBABILITY = 0.5
_BLUR_KERNEL = (1, 7)  # width and height in pixels
_BLUR_SIGMA = (0.1, 3.0)
_COLOURS = 3


@torch.compiler.disable
@torch.no_grad()
def strong_view(image: Tensor) -> Tensor:
    """Return a strongly augmented copy, drawn from PyTorch's generator on the CPU.

    The jitter is made for intensities from 0 to 1. Where an image goes beyond them (z-scored, for
    one), its own range takes their place, and comes back afterwards. Three channels are taken for
    red, green and blue. In images of any other number of channels there is no colour to change:
    brightness, contrast and blur remain, the same for all channels of an image.

    Args:
        image: ``(B, C, H, W)``, H and W at least 4 pixels, on any device.

    Returns:
        A tensor of the same shape and type, without a gradient.
    """
    exact = image.to(at_least_float32(image.dtype))
    with without_autocast(image.device.type):  # the blur is a convolution
        low = exact.amin(dim=(1, 2, 3), keepdim=True).clamp(max=0)
        span = exact.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1) - low
        views = torch.stack([_augmented(each) for each in (exact - low) / span])
        return (views * span + low).to(image.dtype)


def _augmented(image: Tensor) -> Tensor:
    """``(C, H, W)`` from 0 to 1 to the same."""
    if len(image) == _COLOURS:
        return _augmentation()(image)
    return _augmentation()(image.unsqueeze(1)).squeeze(1)  # as grey images with the same draw


@lru_cache(maxsize=1)
def _augmentation() -> Any:
    from torchvision.transforms import v2  # noqa: PLC0415 - only this training needs it

    return v2.Compose(
        [
            v2.ColorJitter(**_JITTER),
            v2.RandomGrayscale(_GREY_PROBABILITY),
            v2.GaussianBlur(_BLUR_KERNEL, _BLUR_SIGMA),
        ]
    )
