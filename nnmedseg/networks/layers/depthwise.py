"""Depthwise convolution as a layer."""

from __future__ import annotations

from torch import Tensor, nn

from nnmedseg.ops.depthwise import depthwise_conv


class DepthwiseConv2d(nn.Conv2d):
    """One filter a channel, with bias, stride 1, padded so that the size stays.

    Args:
        channels: Channels of input and output.
        kernel_size: Height and width of the filters, odd; one number for a square.
    """

    def __init__(self, channels: int, kernel_size: int | tuple[int, int]):
        height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        padding = (height // 2, width // 2)
        super().__init__(channels, channels, (height, width), padding=padding, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps ``(B, C, H, W)``."""
        return depthwise_conv(x, self.weight, self.bias)
