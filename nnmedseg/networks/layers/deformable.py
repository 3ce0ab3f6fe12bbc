"""Deformable depthwise convolution as a layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nnmedseg.ops.deformable import deformable_depthwise_conv


class DeformableDepthwiseConv2d(nn.Module):
    """3x3 filters, one a channel and without bias, whose taps are moved by given offsets."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # PyTorch's start for convolutions

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve maps ``(B, C, H, W)`` with offsets in pixels ``(B, 18, H, W)``."""
        return deformable_depthwise_conv(x, offset, self.weight)
