"""Contrast-driven feature aggregation (CDFA) of ConDSeg."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nnmedseg.networks.layers.cbr import CBR
from nnmedseg.ops._precision import at_least_float32
from nnmedseg.ops.window_mix import WINDOW, mix_windows


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
        weights = heads * WINDOW**4
        self.heads = heads
        self.input_cbr = nn.Sequential(CBR(in_channels, channels), CBR(channels, channels))
        self.value = nn.Linear(channels, channels)
        self.foreground_attention = nn.Linear(channels, weights)
        self.background_attention = nn.Linear(channels, weights)
        self.project = nn.Linear(channels, channels)
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
        mixed = _at_each_pixel(self.value, features)
        mixed = self._mix(mixed, foreground, self.foreground_attention)
        mixed = self._mix(mixed, background, self.background_attention)
        return self.output_cbr(_laid_out_like(mixed, features))

    def _mix(self, values: Tensor, guide: Tensor, attention: nn.Linear) -> Tensor:
        """One pass; maps ``(B, channels, H, W)`` to the same."""
        scale = math.sqrt(self.heads / values.shape[1])
        logits = _at_each_pixel(attention, guide, scale)
        logits = logits.unflatten(1, (self.heads, WINDOW**2, WINDOW**2))
        weights = logits.softmax(3, dtype=at_least_float32(logits.dtype))
        return _at_each_pixel(self.project, mix_windows(weights, values))


def _at_each_pixel(linear: nn.Linear, maps: Tensor, scale: float = 1.0) -> Tensor:
    """``scale`` times a linear layer's output for maps ``(B, C, H, W)``, contiguous.

    `mix_windows` walks along rows of pixels; a convolution would leave channels_last as it is.
    """
    weight = linear.weight.expand(len(maps), -1, -1)
    bias = linear.bias[:, None]
    result = torch.baddbmm(bias, weight, maps.flatten(2), beta=scale, alpha=scale)
    return result.unflatten(2, maps.shape[2:])


def _laid_out_like(maps: Tensor, other: Tensor) -> Tensor:
    if other.is_contiguous(memory_format=torch.channels_last):
        return maps.contiguous(memory_format=torch.channels_last)
    return maps
