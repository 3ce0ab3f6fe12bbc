"""SAM as a whole (Kirillov et al., "Segment Anything")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.sam.mask_decoder import ALL_TOKENS, MaskDecoder
from nnmedseg.networks.layers.sam.prompt_encoder import PromptEncoder

PATCH_SIZE = 16
"""Side in pixels of what becomes a token."""


@dataclass(frozen=True)
class SamMasks:
    """What SAM answers to prompts on N images or objects.

    Attributes:
        logits: ``(N, masks, H / 4, W / 4)``; a pixel is in the mask where they exceed 0. Of all
            four, the first is the one that SAM gives where it is asked for a single mask, the
            others where it is asked for several.
        iou: ``(N, masks)``, the predicted overlap of each mask with the object.
        sparse: The prompts' embeddings ``(N, tokens, C)``, or ``None`` without points and boxes.
    """

    logits: Tensor
    iou: Tensor
    sparse: Tensor | None


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder; images come normalised.

    Args:
        image_encoder: Gives ``(embedding, maps)`` of an image.
        prompt_encoder: Embeds the prompts.
        mask_decoder: Gives masks of both.
    """

    def __init__(
        self, image_encoder: nn.Module, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder
    ):
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    def forward(
        self,
        image: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> SamMasks:
        """Segment one object in each image ``(N, 3, H, W)``; prompts are as in `PromptEncoder`."""
        embedding, _ = self.image_encoder(image)
        return self.decode(embedding, points=points, labels=labels, boxes=boxes, masks=masks)

    def decode(
        self,
        embedding: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        token_shift: Tensor | None = None,
        wanted: slice = ALL_TOKENS,
    ) -> SamMasks:
        """Segment one object in each of N embedded images; see `PromptEncoder`, `MaskDecoder`."""
        height, width = embedding.shape[2:]
        sparse, dense = self.prompt_encoder(
            (height * PATCH_SIZE, width * PATCH_SIZE),
            points=points,
            labels=labels,
            boxes=boxes,
            masks=masks,
        )
        positions = self.prompt_encoder.pe_layer.grid(height, width)
        logits, iou = self.mask_decoder(
            embedding, positions, sparse, dense, token_shift=token_shift, wanted=wanted
        )
        return SamMasks(logits, iou, sparse)


def build_sam(
    *,
    image_size: int = 1024,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    window_size: int = 14,
    global_attn_indexes: Sequence[int] | None = None,
    mlp_ratio: float = 4.0,
    prompt_embed_dim: int = 256,
) -> Sam:
    """Build a SAM, by default the one with ViT-B, with random weights.

    Args:
        image_size: Side in pixels of the square image that the position embedding is for.
        embed_dim: Features of the image encoder's tokens.
        depth: Its blocks.
        num_heads: Its heads.
        window_size: Side of its windows in tokens.
        global_attn_indexes: Its blocks, from 0, that attend over the whole image; the last of
            each quarter, as in ViT-B, -L and -H, if ``None``.
        mlp_ratio: Hidden over outer width of its blocks' MLP.
        prompt_embed_dim: Features of the embedding, of the prompts and in the mask decoder.
    """
    from nnmedseg.networks.layers.sam.image_encoder import (  # noqa: PLC0415 - imports timm
        ImageEncoder,
    )

    if global_attn_indexes is None:
        global_attn_indexes = last_of_each_quarter(depth)
    encoder = ImageEncoder(
        image_size=image_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        window_size=window_size,
        global_attn_indexes=global_attn_indexes,
        mlp_ratio=mlp_ratio,
        out_channels=prompt_embed_dim,
    )
    return Sam(encoder, PromptEncoder(prompt_embed_dim), MaskDecoder(prompt_embed_dim))


def last_of_each_quarter(depth: int) -> list[int]:
    """The blocks, from 0, that attend globally in SAM."""
    return sorted({max(quarter * depth // 4, 1) - 1 for quarter in range(1, 5)})


def postprocess_masks(
    logits: Tensor, input_size: tuple[int, int], original_size: tuple[int, int]
) -> Tensor:
    """Enlarge mask logits to the original image, as SAM does for an image that it padded.

    Args:
        logits: ``(N, masks, H / 4, W / 4)`` for a padded image ``(H, W)``.
        input_size: Height and width of the image in it before padding.
        original_size: Height and width of the image before it was resized to that.

    Returns:
        Logits ``(N, masks, *original_size)``.
    """
    height, width = input_size
    logits = functional.interpolate(logits, scale_factor=4.0, mode="bilinear")
    return functional.interpolate(logits[..., :height, :width], original_size, mode="bilinear")
