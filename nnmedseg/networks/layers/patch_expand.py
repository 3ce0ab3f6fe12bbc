"""Enlarging a grid of tokens by a linear layer (Swin-Unet's patch expanding)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchExpand(nn.Module):
    """Turns each token into a block of ``factor x factor`` normalised tokens.

    The linear layer's features are, slowest first, the row in the block, the column in it, and
    the channel (pixel shuffle has the channel first).

    Args:
        channels: Features of a token before.
        out_channels: Features of a token after.
        factor: Side of the block.
    """

    def __init__(self, channels: int, out_channels: int, factor: int):
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(channels, factor**2 * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, channels)`` to ``(B, factor * H, factor * W, out_channels)``."""
        return self.arrange(self.blocks(x))

    def blocks(self, x: Tensor) -> Tensor:
        """``(B, H, W, channels)`` to the tokens of each block, not yet laid out.

        Returns:
            ``(B, H, W, factor, factor, out_channels)``; what is done token by token can be done
            here, before tokens are moved.
        """
        return self.norm(self.expand(x).unflatten(-1, (self.factor, self.factor, -1)))

    @staticmethod
    def arrange(blocks: Tensor) -> Tensor:
        """Lay blocks ``(B, H, W, f, f, C)`` out as a grid ``(B, f * H, f * W, C)``."""
        return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)
