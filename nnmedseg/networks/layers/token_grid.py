"""Layers on a grid of tokens ``(B, H, W, C)``: maps whose channels lie innermost.

Linear layers and layer norms work on tokens as they are; convolutions see the same memory as maps
in channels_last, so nothing is copied between the two.
"""

from __future__ import annotations

from torch import Tensor, nn

from nnmedseg.networks.layers.depthwise import DepthwiseConv2d


def to_tokens(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` to ``(B, H, W, C)``, as a view."""
    return maps.permute(0, 2, 3, 1)


def to_maps(tokens: Tensor) -> Tensor:
    """``(B, H, W, C)`` to ``(B, C, H, W)``, as a view."""
    return tokens.permute(0, 3, 1, 2)


class TokenDepthwiseConv2d(DepthwiseConv2d):
    """`DepthwiseConv2d` on tokens ``(B, H, W, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a grid of tokens ``(B, H, W, C)``."""
        return to_tokens(super().forward(to_maps(x)))


class MLP(nn.Sequential):
    """Two linear layers with an exact GELU between them.

    Args:
        channels: Features of a token.
        ratio: Inner features over ``channels``.
    """

    def __init__(self, channels: int, ratio: int):
        inner = ratio * channels
        super().__init__(nn.Linear(channels, inner), nn.GELU(), nn.Linear(inner, channels))


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth: drops a residual branch of a whole sample with probability ``rate``."""
    if rate == 0:
        return nn.Identity()
    from timm.layers import DropPath  # noqa: PLC0415 - slow to import, not needed to list networks

    return DropPath(rate)


def rising_rates(largest: float, blocks: int) -> list[float]:
    """Evenly spaced rates of stochastic depth, from 0 to ``largest``."""
    return [largest * block / max(blocks - 1, 1) for block in range(blocks)]
