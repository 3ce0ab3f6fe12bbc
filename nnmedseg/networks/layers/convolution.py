"""Convolutions in the groups in which the papers use them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.fusing import Fusable
from nnmedseg.networks.layers.depthwise import DepthwiseConv2d
from nnmedseg.ops.depthwise import depthwise_conv


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, dilation: int = 1
) -> nn.Sequential:
    """A convolution with bias that keeps the size, then batch normalisation."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def depthwise_norm(channels: int, kernel_size: int | tuple[int, int]) -> nn.Sequential:
    """A depthwise convolution, then batch normalisation."""
    return nn.Sequential(DepthwiseConv2d(channels, kernel_size), nn.BatchNorm2d(channels))


def convolutional_feed_forward(channels: int) -> nn.Sequential:
    """1x1 convolution, 7x7 depthwise convolution, GELU, 1x1 convolution; no normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1),
        DepthwiseConv2d(channels, 7),
        nn.GELU(),
        nn.Conv2d(channels, channels, 1),
    )


class PointwiseSum(nn.Module):
    """A 1x1 convolution of concatenated maps as a sum of one product a map, for inference.

    Nothing is copied, which takes it a half to a quarter of the time.

    Args:
        weight: ``(out_channels, channels of all maps)``.
        bias: ``(out_channels,)``, or ``None``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous())
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps ``(B, C_i, H, W)``, best in channels_last, to one ``(B, out_channels, H, W)``."""
        weights = self.weight.split([x.shape[1] for x in maps], dim=1)
        first, *others = (x.permute(0, 2, 3, 1) for x in maps)
        total = functional.linear(first, weights[0], self.bias)
        pixels = total.flatten(0, 2)
        for x, weight in zip(others, weights[1:], strict=True):
            # Autocast leaves operations in place alone.
            pixels.addmm_(x.flatten(0, 2).to(total.dtype), weight.t().to(total.dtype))
        return total.permute(0, 3, 1, 2)


class ConcatenatedPointwise(nn.Conv2d, Fusable):
    """A 1x1 convolution of concatenated maps."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps ``(B, C_i, H, W)`` to one ``(B, out_channels, H, W)``."""
        return super().forward(torch.cat(maps, dim=1))

    def fused(self) -> nn.Module:
        """Add the maps' products up."""
        return PointwiseSum(self.weight.flatten(1), self.bias)


class SummedDepthwise(nn.Module):
    """A convolution to one channel as a depthwise one and a sum over the channels, for inference.

    On a CPU oneDNN convolves to one channel at the cost of sixteen.

    Args:
        conv: The convolution, of stride 1 and odd size, with bias, that keeps the size.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight = nn.Parameter(conv.weight.transpose(0, 1).contiguous())
        self.bias = nn.Parameter(cast(Tensor, conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, 1, H, W)``."""
        return depthwise_conv(x, self.weight).sum(dim=1, keepdim=True) + self.bias


def add_identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Add its input to the output of a convolution that keeps channels and size, in the weights."""
    height, width = conv.kernel_size
    middle = conv.weight.data[:, :, height // 2, width // 2]
    middle.diagonal().add_(1)
    return conv
