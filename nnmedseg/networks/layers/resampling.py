"""Changing the size of maps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.fusing import Fusable, folded


def enlarge(x: Tensor, factor: int = 2) -> Tensor:
    """Enlarge maps ``(B, C, H, W)`` bilinearly, the corner pixels staying at the corners."""
    if factor == 1:
        return x
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


class Enlarge(nn.Module):
    """`enlarge` as a layer."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, factor * H, factor * W)``."""
        return enlarge(x, self.factor)


class EnlargedPointwise(nn.Sequential, Fusable):
    """A 1x1 convolution and batch norm of an enlarged map, the convolution before the enlargement.

    In training batch norm needs the statistics of the enlarged map. In evaluation it is linear and
    the weights of the interpolation add up to one, so it too comes before.

    Args:
        conv: A 1x1 convolution.
        norm: Its batch norm.
        after: What follows.
        factor: How many times the map is enlarged.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module, *after: nn.Module, factor: int = 2):
        super().__init__(conv, norm, *after)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, factor * H, factor * W)``."""
        conv, norm, *after = self
        x = norm(enlarge(conv(x), self.factor))
        for layer in after:
            x = layer(x)
        return x

    def fused(self) -> nn.Module:
        """Normalise before the enlargement."""
        conv, norm, *after = self
        return nn.Sequential(folded([conv, norm]), Enlarge(self.factor), *after)
