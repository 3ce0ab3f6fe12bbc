"""The two-way transformer of SAM's mask decoder: tokens and image attend to each other."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention with separate projections, whose inner width may be smaller.

    Args:
        channels: Features of a token.
        num_heads: Heads.
        downsample_rate: Outer over inner width.
    """

    def __init__(self, channels: int, num_heads: int, downsample_rate: int = 1):
        super().__init__()
        inner = channels // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let ``(B, N, C)`` attend to keys and values ``(B, M, C)``; returns ``(B, N, C)``."""
        out = functional.scaled_dot_product_attention(
            self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))
        )
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., channels)`` to the same."""
        return self.lin2(functional.relu(self.lin1(x)))


class TwoWayAttentionBlock(nn.Module):
    """Tokens attend to themselves, to the image, pass an MLP; then the image attends to them.

    Args:
        channels: Features of tokens and image.
        num_heads: Heads.
        hidden: Hidden width of the MLP.
        is_first: Whether the tokens are their own positions still, so that the self-attention
            has neither positions nor a residual.
    """

    def __init__(self, channels: int, num_heads: int, hidden: int, *, is_first: bool):
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(channels, num_heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = Attention(channels, num_heads, downsample_rate=2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, hidden)
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = Attention(channels, num_heads, downsample_rate=2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map tokens ``(B, N, C)`` and image ``(B, M, C)`` to the same, given their positions."""
        if self.is_first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_positions
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_positions
        attended = self.cross_attn_token_to_image(tokens + token_positions, placed_image, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        placed = tokens + token_positions
        image = image + self.cross_attn_image_to_token(placed_image, placed, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the image.

    Args:
        channels: Features of tokens and image.
        depth: Blocks.
        num_heads: Heads.
        hidden: Hidden width of the MLPs.
    """

    def __init__(
        self, channels: int = 256, *, depth: int = 2, num_heads: int = 8, hidden: int = 2048
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(channels, num_heads, hidden, is_first=layer == 0)
            for layer in range(depth)
        )
        self.final_attn_token_to_image = Attention(channels, num_heads, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, image: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image attend to each other.

        Args:
            tokens: ``(B, N, C)``; as they are given they also serve as the tokens' positions.
            image: ``(B, M, C)``.
            image_positions: ``(1, M, C)``.

        Returns:
            Tokens and image after it, of the same shapes.
        """
        token_positions = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_positions, image_positions)
        attended = self.final_attn_token_to_image(
            tokens + token_positions, image + image_positions, image
        )
        return self.norm_final_attn(tokens + attended), image
