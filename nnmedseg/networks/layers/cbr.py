"""Convolution, batch normalisation, ReLU."""

from __future__ import annotations

from torch import nn


class CBR(nn.Sequential):
    """A convolution without bias that keeps the size, batch normalisation and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: 1 or 3.
        dilation: Distance between the taps of a 3x3 convolution.
        activation: Whether ReLU follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        dilation: int = 1,
        activation: bool = True,
    ):
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            bias=False,
        )
        super().__init__(conv, nn.BatchNorm2d(out_channels))
        if activation:
            self.append(nn.ReLU(inplace=True))
