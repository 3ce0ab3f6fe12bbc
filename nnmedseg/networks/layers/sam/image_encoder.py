"""SAM's image encoder: timm's, with an attention that never stores its position bias."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from timm.layers import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import Attention, VisionTransformerSAM
from torch import Tensor, nn
from torch.nn import functional


def relative_positions(table: Tensor, size: int) -> Tensor:
    """Look up an axis' relative positions, resizing the table where it is for another size.

    Args:
        table: ``(2 * size' - 1, d)``; resized linearly to ``2 * size - 1`` rows if they differ.
        size: Tokens along the axis.

    Returns:
        ``(size, size, d)``; entry (i, k) is for a query at i and a key at k.
    """
    rows = 2 * size - 1
    if table.shape[0] != rows:
        table = functional.interpolate(table.t().unsqueeze(0), size=rows, mode="linear")[0].t()
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]


class FoldedAttention(nn.Module):
    """Self-attention with decomposed relative positions, which are folded into queries and keys.

    The bias of a query at row i and column j towards a key at row k and column l is
    ``q . rows[i, k] + q . columns[j, l]``. With these products appended to the scaled query, and
    the one-hot row and column of the key to the key, plain attention gives the same logits. So
    the bias, ``heads * tokens**2`` values (800 MB an image in each global block of ViT-B at
    1024 x 1024), never exists, and the fused kernels that take no mask can be used.

    Args:
        attention: timm's attention, whose parameters are taken over under their names.
    """

    def __init__(self, attention: Attention):
        super().__init__()
        self.num_heads = attention.num_heads
        self.scale = attention.scale
        self.qkv = attention.qkv
        self.proj = attention.proj
        self.rel_pos_h = attention.rel_pos_h
        self.rel_pos_w = attention.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """Attend among tokens ``(B, H, W, D)``; returns the same shape."""
        batch, height, width, channels = x.shape
        heads = (batch, height * width, 3, self.num_heads, channels // self.num_heads)
        query, key, value = self.qkv(x).reshape(heads).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(
            self._folded_query(query, height, width),
            _folded_key(key, height, width),
            functional.pad(value, (0, height + width)),  # the kernels want one width for all
            scale=1.0,
        )
        out = out[..., : value.shape[-1]].transpose(1, 2).reshape(x.shape)
        return self.proj(out)

    def _folded_query(self, query: Tensor, height: int, width: int) -> Tensor:
        grid = query.unflatten(2, (height, width))
        rows = relative_positions(self.rel_pos_h, height)
        columns = relative_positions(self.rel_pos_w, width)
        by_row = torch.einsum("bnhwd,hkd->bnhwk", grid, rows).flatten(2, 3)
        by_column = torch.einsum("bnhwd,wkd->bnhwk", grid, columns).flatten(2, 3)
        return torch.cat([query * self.scale, by_row, by_column], dim=-1)


def _folded_key(key: Tensor, height: int, width: int) -> Tensor:
    rows = torch.eye(height, dtype=key.dtype, device=key.device)
    columns = torch.eye(width, dtype=key.dtype, device=key.device)
    places = [rows.repeat_interleave(width, dim=0), columns.repeat(height, 1)]
    return torch.cat([key, torch.cat(places, dim=-1).expand(*key.shape[:3], -1)], dim=-1)


class ImageEncoder(VisionTransformerSAM):
    """SAM's vision transformer, timm's with SAM's own norms and without a classifier.

    Position embedding and tables keep the shapes of the checkpoint, and are resized where an image
    is of another size: the embedding bicubically, the global blocks' tables linearly.

    Args:
        image_size: Side in pixels of the square image that the position embedding is for.
        embed_dim: Features of a token.
        depth: Blocks.
        num_heads: Heads of each attention.
        window_size: Side in tokens of the windows.
        global_attn_indexes: The blocks, from 0, that attend over the whole image.
        mlp_ratio: Hidden over outer width of the blocks' MLP.
        out_channels: Channels of the embedding.
    """

    def __init__(
        self,
        *,
        image_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        window_size: int,
        global_attn_indexes: Sequence[int],
        mlp_ratio: float,
        out_channels: int,
    ):
        super().__init__(
            img_size=image_size,
            num_classes=0,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            norm_layer=cast(Any, partial(nn.LayerNorm, eps=1e-6)),
            use_rel_pos=True,
            window_size=window_size,
            global_attn_indexes=tuple(global_attn_indexes),
            neck_chans=out_channels,
        )
        for block in self.blocks:
            block.attn = FoldedAttention(cast(Attention, block.attn))

    def forward(self, image: Tensor, taps: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)``, H and W multiples of 16, normalised.
            taps: The blocks, counted from 1, whose outputs are returned as well.

        Returns:
            The embedding ``(B, out_channels, H / 16, W / 16)`` and, in the order of ``taps``, the
            blocks' outputs ``(B, embed_dim, H / 16, W / 16)``.
        """
        x = self.patch_embed(image)
        x = x + resample_abs_pos_embed_nhwc(self.pos_embed, x.shape[1:3])
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        maps = [outputs[tap - 1].permute(0, 3, 1, 2) for tap in taps]
        return self.neck(x.permute(0, 3, 1, 2)), maps
