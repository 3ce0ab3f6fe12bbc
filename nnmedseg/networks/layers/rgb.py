"""Images of any number of channels for networks that were trained on photographs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnmedseg.networks.layers.layout import channels_last

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ToRGB(nn.Module):
    """Three channels from any number: three pass on, one is repeated, others are mixed.

    The mix is a trained 1x1 convolution that starts as the mean over the channels.

    Args:
        channels: Channels of the image.
        normalize: Whether to subtract ImageNet's mean and divide by its standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, *, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
        self.mix = None
        if channels not in (1, 3):
            self.mix = nn.Conv2d(channels, 3, 1)
            nn.init.constant_(self.mix.weight, 1 / channels)
            self.mix.bias = nn.Parameter(torch.zeros(3))
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            buffer = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to ``(B, 3, H, W)``."""
        if self.mix is not None:
            image = self.mix(image)
        elif image.shape[1] == 1:
            image = channels_last(image.expand(-1, 3, -1, -1))
        return (image - self.mean) / self.std if self.normalize else image
