"""SAM's mask decoder: embeddings of image and prompts become masks."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.sam.norm import LayerNorm2d
from nnmedseg.networks.layers.sam.transformer import TwoWayTransformer

NUM_MASK_TOKENS = 4
"""One for a single mask (token 0) and three for several (tokens 1 to 3)."""

ALL_TOKENS = slice(NUM_MASK_TOKENS)


class MLP(nn.Module):
    """Three linear layers with a ReLU between them."""

    def __init__(self, channels: int, hidden: int, out_channels: int):
        super().__init__()
        widths = [channels, hidden, hidden, out_channels]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in itertools.pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(..., channels)`` to ``(..., out_channels)``."""
        *first, last = self.layers
        for layer in first:
            x = functional.relu(layer(x))
        return last(x)


class MaskDecoder(nn.Module):
    """Predicts a mask for each mask token, and how well each will overlap the object.

    Args:
        channels: Features of the embeddings, a multiple of 32.
        iou_hidden: Hidden width of the MLP that predicts the overlap.
    """

    def __init__(self, channels: int = 256, iou_hidden: int = 256):
        super().__init__()
        self.transformer = TwoWayTransformer(channels)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, stride=2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(channels, channels, channels // 8) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_prediction_head = MLP(channels, iou_hidden, NUM_MASK_TOKENS)

    def forward(
        self,
        embedding: Tensor,
        positions: Tensor,
        sparse: Tensor | None,
        dense: Tensor,
        *,
        token_shift: Tensor | None = None,
        wanted: slice = ALL_TOKENS,
    ) -> tuple[Tensor, Tensor]:
        """Decode the masks of N images or objects.

        Args:
            embedding: ``(N, C, h, w)`` of the image encoder.
            positions: ``(1, C, h, w)``, the encoded places of its pixels.
            sparse: ``(N, tokens, C)`` of the prompts, or ``None``.
            dense: Added to the embedding: ``(N, C, h, w)`` or ``(1, C, 1, 1)``.
            token_shift: ``(N, 4, C)``, added to the mask tokens.
            wanted: The mask tokens whose masks are returned.

        Returns:
            Logits ``(N, masks, 4 h, 4 w)`` and overlaps ``(N, masks)`` of the wanted tokens.
        """
        count, channels, height, width = embedding.shape
        tokens = self._tokens(count, token_shift, sparse)
        image = (embedding + dense).flatten(2).transpose(1, 2)
        tokens, image = self.transformer(tokens, image, positions.flatten(2).transpose(1, 2))
        upscaled = self.output_upscaling(
            image.transpose(1, 2).reshape(count, channels, height, width)
        )
        mask_tokens = tokens[:, 1 : 1 + NUM_MASK_TOKENS].unbind(1)[wanted]
        filters = [
            mlp(token)
            for mlp, token in zip(self.output_hypernetworks_mlps[wanted], mask_tokens, strict=True)
        ]
        logits = torch.einsum("nmc,nchw->nmhw", torch.stack(filters, dim=1), upscaled)
        return logits, self.iou_prediction_head(tokens[:, 0])[:, wanted]

    def _tokens(self, count: int, token_shift: Tensor | None, sparse: Tensor | None) -> Tensor:
        mask_tokens = self.mask_tokens.weight.expand(count, -1, -1)
        if token_shift is not None:
            mask_tokens = mask_tokens + token_shift
        tokens = [self.iou_token.weight.expand(count, -1, -1), mask_tokens]
        return torch.cat(tokens if sparse is None else [*tokens, sparse], dim=1)
