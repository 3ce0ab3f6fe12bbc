"""Convolutions in the groups in which the papers use them."""

from __future__ import annotations

from torch import nn

from nnmedseg.networks.layers.depthwise import DepthwiseConv2d


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
