"""Spatial and channel synergistic attention (Si et al., "SCSA", 2024)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.token_grid import to_maps
from nnmedseg.ops.depthwise import depthwise_conv


class SCSA(nn.Module):
    """Weighs rows and columns by multi-scale convolutions of their means, then the channels.

    Args:
        channels: Features of a token, a multiple of 4 and of ``heads``.
        heads: Heads of the attention between channels.
    """

    kernel_sizes = (3, 5, 7, 9)
    window = 7

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        quarter = channels // len(self.kernel_sizes)
        self.convs = nn.ModuleList(
            nn.Conv1d(quarter, quarter, size, groups=quarter) for size in self.kernel_sizes
        )
        self.norm_rows = nn.GroupNorm(len(self.kernel_sizes), channels)
        self.norm_columns = nn.GroupNorm(len(self.kernel_sizes), channels)
        self.norm = nn.GroupNorm(1, channels)
        # Depthwise 1x1 convolutions, written as the products that they are.
        self.query, self.key, self.value = (
            nn.Parameter(torch.empty(channels, 1, 1, 1).uniform_(-1, 1)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """A grid of tokens ``(B, H, W, C)`` to the same."""
        rows, columns = self._spatial_gates(x)
        x = x * rows.unsqueeze(2) * columns.unsqueeze(1)
        return x * self._channel_gate(x)

    def _spatial_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gates of the rows ``(B, H, C)`` and of the columns ``(B, W, C)``.

        One convolution serves both: they lie in one row, kept apart by zeros, and all kernels are
        filled up to the widest.
        """
        height, width = x.shape[1:3]
        widest = self.kernel_sizes[-1]
        row_means = functional.pad(x.mean(2), (0, 0, 0, widest // 2))
        means = torch.cat([row_means, x.mean(1)], dim=1)
        convs = [cast(nn.Conv1d, conv) for conv in self.convs]
        kernels = torch.cat([_filled_up(conv.weight, widest) for conv in convs])
        biases = torch.cat([cast(Tensor, conv.bias) for conv in convs])
        row = means.transpose(1, 2).unsqueeze(2)
        mixed = depthwise_conv(row, kernels.unsqueeze(2), biases).squeeze(2)
        rows = torch.sigmoid(self.norm_rows(mixed[..., :height]))
        columns = torch.sigmoid(self.norm_columns(mixed[..., -width:]))
        return rows.transpose(1, 2), columns.transpose(1, 2)

    def _channel_gate(self, x: Tensor) -> Tensor:
        """A gate ``(B, 1, 1, C)``: attention between the channels of the pooled map."""
        window = (min(self.window, x.shape[1]), min(self.window, x.shape[2]))
        pooled = self.norm(functional.avg_pool2d(to_maps(x), window))
        query, key, value = (
            (pooled * scale.squeeze(-1)).flatten(2).unflatten(1, (self.heads, -1))
            for scale in (self.query, self.key, self.value)
        )
        logits = query @ key.transpose(2, 3) * query.shape[2] ** -0.5
        # The mean over the cells of a product is the product with the mean.
        gate = logits.softmax(-1) @ value.mean(-1, keepdim=True)
        return torch.sigmoid(gate).view(x.shape[0], 1, 1, -1)


def _filled_up(kernel: Tensor, size: int) -> Tensor:
    """A kernel ``(C, 1, k)`` with zeros on both sides, ``(C, 1, size)``; both odd."""
    return functional.pad(kernel, ((size - kernel.shape[-1]) // 2,) * 2)
