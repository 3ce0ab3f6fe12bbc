"""Layer norm over the channels of a map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of ``(B, C, H, W)``, eps 1e-6 as in SAM."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map; the result is laid out channels_last."""
        x = x.permute(0, 2, 3, 1)
        x = functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)
