"""Bi-level routing attention (Zhu et al., "BiFormer", 2023) in the form that HeteroMedSeg uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.token_grid import MLP, TokenDepthwiseConv2d, drop_path
from nnmedseg.ops._precision import at_least_float32, without_autocast


class BRA(nn.Module):
    """Attention of the tokens of each region to all tokens of the regions most like it.

    A region is described by the means of its queries and of its keys; the choice of regions is
    hard and passes no gradient. Routing and attention scale their logits by ``channels ** -0.5``,
    whatever the width of a head.

    Args:
        channels: Features of a token.
        heads: Heads of the attention.
        topk: Regions that each region attends to; all of them where there are fewer.
    """

    def __init__(self, channels: int, heads: int, topk: int):
        super().__init__()
        self.heads, self.topk = heads, topk
        self.scale = channels**-0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.local_enhancement = TokenDepthwiseConv2d(channels, 5)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, regions: tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x: A grid of tokens ``(B, H, W, C)``.
            regions: Regions along height and width. Where they do not divide the grid, zero rows
                below and zero columns to the right are added, and cut off again in the end.

        Returns:
            Tokens ``(B, H, W, C)``.
        """
        height, width, channels = x.shape[1:]
        x = pad_to_regions(x, regions)
        tokens = cut_regions(x, regions)
        weights = self.qkv.weight.split([channels, 2 * channels])
        biases = self.qkv.bias.split([channels, 2 * channels])
        query = functional.linear(tokens, weights[0], biases[0])
        key_value = functional.linear(tokens, weights[1], biases[1])
        attended = self._attend(query, key_value, self.choose(tokens))
        grid = x.shape[1:3]
        value = join_regions(key_value[..., channels:], regions, grid)
        out = join_regions(attended, regions, grid) + self.local_enhancement(value)
        return self.out_proj(_cropped(out, height, width))

    @torch.no_grad()
    def choose(self, tokens: Tensor) -> Tensor:
        """The regions that each region attends to.

        Args:
            tokens: Tokens by region ``(B, R, T, C)``.

        Returns:
            Numbers of regions ``(B, R, min(topk, R))``, in no particular order.
        """
        wide = at_least_float32(tokens.dtype)
        channels = tokens.shape[-1]
        with without_autocast(tokens.device.type):
            # The mean of the projections is the projection of the mean.
            weight = self.qkv.weight[: 2 * channels].to(wide)
            bias = self.qkv.bias[: 2 * channels].to(wide)
            descriptors = functional.linear(tokens.mean(2, dtype=wide), weight, bias)
            query, key = descriptors.chunk(2, dim=-1)
            logits = (self.scale * query) @ key.transpose(1, 2)
        return logits.topk(min(self.topk, tokens.shape[1]), sorted=False).indices

    def _attend(self, query: Tensor, key_value: Tensor, chosen: Tensor) -> Tensor:
        """Queries ``(B, R, T, C)`` to the keys and values ``(B, R, T, 2 C)`` of chosen regions.

        The regions are gathered whole, keys and values together, in the one copy that is needed;
        heads are views of it.
        """
        batch, regions, _, channels = query.shape
        first = regions * torch.arange(batch, device=chosen.device).view(-1, 1, 1)
        rows = (chosen + first).flatten()
        gathered = key_value.flatten(0, 1).index_select(0, rows)
        key, value = gathered.view(
            batch * regions, -1, 2, self.heads, channels // self.heads
        ).permute(2, 0, 3, 1, 4)
        by_head = query.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out = functional.scaled_dot_product_attention(by_head, key, value, scale=self.scale)
        return out.transpose(1, 2).reshape(query.shape)


class BRABlock(nn.Module):
    """Decoder block: routing attention and an MLP on the normalised tokens.

    The tokens are replaced by their norm: they have no shortcut past it, and the same norm is
    applied once more before the attention.

    Args:
        channels: Features of a token.
        heads, topk: See `BRA`.
        mlp_ratio: Inner features of the MLP over ``channels``.
        drop_path_rate: Rate of stochastic depth of attention and MLP.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        topk: int,
        *,
        mlp_ratio: int = 3,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.position = TokenDepthwiseConv2d(channels, 3)
        self.attention = BRA(channels, heads, topk)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MLP(channels, mlp_ratio)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor, regions: tuple[int, int]) -> Tensor:
        """A grid of tokens ``(B, H, W, C)`` to the same; ``regions`` as in `BRA.forward`."""
        x = self.norm1(x)
        x = x + self.position(x)
        x = x + self.drop_path(self.attention(self.norm1(x), regions))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def pad_to_regions(x: Tensor, regions: tuple[int, int]) -> Tensor:
    """Add zeros below and to the right of a grid ``(B, H, W, C)`` until the regions divide it."""
    bottom, right = (-side % count for side, count in zip(x.shape[1:3], regions, strict=True))
    return functional.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def cut_regions(x: Tensor, regions: tuple[int, int]) -> Tensor:
    """A grid ``(B, H, W, C)`` to tokens by region ``(B, R, T, C)``, both in row-major order."""
    rows, columns = regions
    cut = x.unflatten(2, (columns, -1)).unflatten(1, (rows, -1))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join_regions(tokens: Tensor, regions: tuple[int, int], grid: torch.Size) -> Tensor:
    """Tokens by region ``(B, R, T, C)`` back to a grid ``(B, *grid, C)``."""
    rows, columns = regions
    height, width = grid
    cut = tokens.unflatten(2, (height // rows, width // columns)).unflatten(1, regions)
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _cropped(x: Tensor, height: int, width: int) -> Tensor:
    return x if x.shape[1:3] == (height, width) else x[:, :height, :width]
