"""Weights between 0 and 1 for channels and for pixels (RoSPER-Net, ASC-Seg)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnmedseg.networks.fusing import Fusable
from nnmedseg.networks.layers.convolution import SummedDepthwise, conv_norm


class ChannelGate(nn.Module):
    """Weighs the channels by their global maximum plus their global mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Sequential(
            *conv_norm(channels, channels), nn.GELU(), *conv_norm(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, 1, 1)``; in training the batch holds two samples or more."""
        pooled = x.amax(dim=(2, 3), keepdim=True) + x.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.gate(pooled))


_FEWEST_SUMMED = 16
"""Channels from which on `SummedDepthwise` is the faster; with two it is not."""


class SpatialGate(nn.Module, Fusable):
    """Weighs the pixels by the mean and the maximum of their neighbourhood.

    Args:
        channels: Channels of the map.
        hidden: Channels between the two 1x1 convolutions of a branch.
        summary: Channels that each branch gives to the 7x7 convolution.
    """

    def __init__(self, channels: int, hidden: int, summary: int):
        super().__init__()
        self.average = nn.Sequential(
            nn.AvgPool2d(3, 1, 1), *self._summarise(channels, hidden, summary)
        )
        self.maximum = nn.Sequential(
            nn.MaxPool2d(3, 1, 1), *self._summarise(channels, hidden, summary)
        )
        self.gate = conv_norm(2 * summary, 1, 7)

    @staticmethod
    def _summarise(channels: int, hidden: int, summary: int) -> nn.Sequential:
        return nn.Sequential(*conv_norm(channels, hidden), nn.GELU(), *conv_norm(hidden, summary))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, 1, H, W)``."""
        return torch.sigmoid(self.gate(torch.cat([self.average(x), self.maximum(x)], dim=1)))

    def fused(self: Any) -> nn.Module:
        """Convolve many channels to the one of the gate in the faster way."""
        if self.gate.in_channels >= _FEWEST_SUMMED:
            self.gate = SummedDepthwise(self.gate)
        return self
