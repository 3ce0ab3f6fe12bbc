"""Contrast-driven feature aggregation (CDFA) of ConDSeg."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nnmedseg.networks.layers.cbr import CBR
from nnmedseg.ops._precision import at_least_float32
from nnmedseg.ops.window_mix import WINDOW, mix_windows


class PixelLinear(nn.Linear):
    """A linear layer at every pixel, whose output is contiguous and may be scaled.

    A 1x1 convolution would leave channels_last as it is; `mix_windows` walks along rows of pixels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        scale: Factor of the output.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 1.0):
        super().__init__(in_channels, out_channels)
        self.scale = scale

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``."""
        weight = self.weight.expand(len(maps), -1, -1)
        bias = self.bias[:, None]
        result = torch.baddbmm(bias, weight, maps.flatten(2), beta=self.scale, alpha=self.scale)
        return result.unflatten(2, maps.shape[2:])


class CDFA(nn.Module):
    """Mixes features in 3x3 windows, with weights from the foreground, then from the background.

    Each pass folds its overlapping windows by a plain sum and projects the result; both share the
    projection, and only the first has values of its own.

    Args:
        in_channels: Channels of the features.
        channels: Channels of the guides and of the output.
        heads: Equal parts of the channels, each mixed with weights of its own.
    """

    def __init__(self, in_channels: int, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.input_cbr = nn.Sequential(CBR(in_channels, channels), CBR(channels, channels))
        self.value = PixelLinear(channels, channels)
        self.foreground_attention, self.background_attention = (
            PixelLinear(channels, heads * WINDOW**4, math.sqrt(heads / channels)) for _ in range(2)
        )
        self.project = PixelLinear(channels, channels)
        self.output_cbr = nn.Sequential(CBR(channels, channels), CBR(channels, channels))

    def forward(self, features: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """Aggregate features; all maps have one size.

        Args:
            features: ``(B, in_channels, H, W)``.
            foreground: Foreground guide ``(B, channels, H, W)``.
            background: Background guide ``(B, channels, H, W)``.

        Returns:
            ``(B, channels, H, W)``.
        """
        features = self.input_cbr(features)
        mixed = self._mix(self.value(features), self.foreground_attention(foreground))
        mixed = self._mix(mixed, self.background_attention(background))
        return self.output_cbr(_laid_out_like(mixed, features))

    def _mix(self, values: Tensor, logits: Tensor) -> Tensor:
        """One pass: ``(B, channels, H, W)`` and ``(B, 81 heads, H, W)`` to the former's shape."""
        logits = logits.unflatten(1, (self.heads, WINDOW**2, WINDOW**2))
        weights = logits.softmax(3, dtype=at_least_float32(logits.dtype))
        return self.project(mix_windows(weights, values))


def _laid_out_like(maps: Tensor, other: Tensor) -> Tensor:
    if other.is_contiguous(memory_format=torch.channels_last):
        return maps.contiguous(memory_format=torch.channels_last)
    return maps
