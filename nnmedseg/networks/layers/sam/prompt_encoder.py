"""SAM's prompt encoder: points, boxes and masks become embeddings."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from nnmedseg.networks.layers.sam.norm import LayerNorm2d
from nnmedseg.ops._precision import at_least_float32, without_autocast

PADDING, BACKGROUND, FOREGROUND, FIRST_CORNER, SECOND_CORNER = -1, 0, 1, 2, 3
"""Labels of a point; the corners are a box's upper left and lower right one."""


class PositionEncoding(nn.Module):
    """Sines and cosines of random projections of a place in the image.

    Always in float32: half precision would move a point by half a pixel or more.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer(
            "positional_encoding_gaussian_matrix", torch.randn(2, channels // 2), persistent=True
        )

    @property
    def dtype(self) -> torch.dtype:
        """The type to compute places in, at least float32."""
        return at_least_float32(self.positional_encoding_gaussian_matrix.dtype)

    def forward(self, places: Tensor) -> Tensor:
        """Encode places ``(..., 2)``, x and y from 0 to 1, as ``(..., channels)``."""
        places = 2 * places.to(self.dtype) - 1
        along_x, along_y = self.positional_encoding_gaussian_matrix.to(self.dtype)
        # Not a matrix product: autocast and TF32 would round it.
        angles = 2 * math.pi * (places[..., :1] * along_x + places[..., 1:] * along_y)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Encode the centres of a grid's cells, as ``(1, channels, height, width)``."""
        matrix = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=matrix.device, dtype=self.dtype) + 0.5) / height
        x = (torch.arange(width, device=matrix.device, dtype=self.dtype) + 0.5) / width
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self(places).to(matrix.dtype).permute(2, 0, 1).unsqueeze(0)


class PromptEncoder(nn.Module):
    """Embeds prompts; see `forward`.

    Args:
        channels: Features of an embedding.
        mask_channels: Channels of a mask prompt before its last convolution.
    """

    def __init__(self, channels: int = 256, mask_channels: int = 16):
        super().__init__()
        self.channels = channels
        self.pe_layer = PositionEncoding(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.no_mask_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, channels, 1),
        )

    def forward(
        self,
        image_size: tuple[int, int],
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Embed the prompts of N images or objects.

        Args:
            image_size: Height and width of the image in pixels.
            points: ``(N, P, 2)``, x and y in pixels, whole numbers at the pixels' centres.
            labels: ``(N, P)``: 1 for foreground, 0 for background, -1 for a point that is none; all
                points are foreground if ``None``.
            boxes: ``(N, 4)``, x and y of the upper left and of the lower right corner.
            masks: ``(N, 1, H / 4, W / 4)``, logits of an earlier mask.

        Returns:
            The sparse embeddings ``(N, tokens, channels)``: the points', then the two corners'
            of the box or, where there are points and no box, a padding point's; ``None`` without
            points and boxes. And the dense embedding, ``(N, channels, H / 16, W / 16)`` of a mask
            or without one ``(1, channels, 1, 1)``.
        """
        sparse = None
        if points is not None or boxes is not None:
            with without_autocast(self.no_mask_embed.weight.device.type):
                sparse = self._embed_points(*_as_points(points, labels, boxes), image_size)
        if masks is None:
            return sparse, self.no_mask_embed.weight[:, :, None, None]
        return sparse, self.mask_downscaling(masks)

    def _embed_points(self, points: Tensor, labels: Tensor, image_size: tuple[int, int]) -> Tensor:
        height, width = image_size
        points = points.to(self.pe_layer.dtype)
        position = self.pe_layer((points + 0.5) / points.new_tensor([width, height]))
        position = position * (labels != PADDING).unsqueeze(-1)
        no_point = self.not_a_point_embed.weight
        kinds = [cast(nn.Embedding, kind).weight for kind in self.point_embeddings]
        embedded = position + torch.cat([no_point, *kinds])[labels + 1]
        return embedded.to(no_point.dtype)


def _as_points(
    points: Tensor | None, labels: Tensor | None, boxes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Points with a padding point, or with the corners of a box, and all their labels."""
    coordinates, kinds = [], []
    if points is not None:
        coordinates.append(points)
        kinds.append(torch.ones_like(points[..., 0]) * FOREGROUND if labels is None else labels)
    if boxes is not None:
        coordinates.append(boxes.reshape(-1, 2, 2))
        kinds.append(torch.tensor([FIRST_CORNER, SECOND_CORNER]).expand(boxes.shape[0], -1))
    elif points is not None:
        coordinates.append(torch.zeros_like(points[:, :1]))
        kinds.append(torch.full_like(points[:, :1, 0], PADDING))
    device = coordinates[0].device
    labels = torch.cat([kind.to(device, torch.long) for kind in kinds], dim=1)
    return torch.cat(coordinates, dim=1), labels
