"""The prediction head of RoSPER-Net and ASC-Seg."""

from __future__ import annotations

from torch import Tensor, nn

from nnmedseg.networks.layers.resampling import enlarge


class PH(nn.Module):
    """Prediction head: logits of a decoder stage, enlarged to the image's size.

    It projects the small map and enlarges the logits, which gives the same as the reverse order.
    """

    def __init__(self, channels: int, num_classes: int, scale: int):
        super().__init__()
        self.scale = scale
        self.project = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, num_classes, scale * H, scale * W)``."""
        return enlarge(self.project(x), self.scale)
