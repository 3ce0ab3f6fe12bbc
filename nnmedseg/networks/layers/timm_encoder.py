"""Encoders that timm builds, as four maps from shallow to deep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nnmedseg.errors import UserError
from nnmedseg.networks.fusing import Fusable, fold_attributes
from nnmedseg.networks.layers.layout import channels_last


@dataclass(frozen=True)
class TimmEncoderFacts:
    """One of timm's networks as an encoder.

    Args:
        pretrained: timm's name of the network and of its ImageNet weights.
        first_convolution: The entry of its state dict that depends on the image's channels.
        options: Further arguments of ``timm.create_model``.
        norms: Names of convolutions in its modules, and of the batch norms beside that follow each.
    """

    pretrained: str
    first_convolution: str
    options: Mapping[str, Any] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The network's name alone."""
        return self.pretrained.partition(".")[0]


TIMM_ENCODERS = {
    "resnet50": TimmEncoderFacts(
        "resnet50.tv_in1k",
        "conv1.weight",
        {"out_indices": (0, 1, 2, 3), "zero_init_last": False},  # torchvision's start too
        {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3"},
    ),
    "pvt_v2_b2": TimmEncoderFacts(
        "pvt_v2_b2.in1k", "patch_embed.proj.weight", {"drop_path_rate": 0.1}
    ),
}
"""What can be asked for by name.

``resnet50`` is torchvision's ResNet-50 without its last stage: 64, 256, 512 and 1024 channels at a
half to a sixteenth of the image's size. ``pvt_v2_b2`` is the Pyramid Vision Transformer v2 b2: 64,
128, 320 and 512 channels at a quarter to a thirty-second.
"""


class TimmEncoder(nn.Module, Fusable):
    """An encoder without pretrained weights.

    Args:
        name: One of `TIMM_ENCODERS`.
        input_channels: Channels of the image.

    Attributes:
        channels: Channels of the four maps, shallow to deep.
        reductions: The image's size over that of each map.

    Raises:
        UserError: There is no such encoder.
    """

    def __init__(self, name: str, input_channels: int):
        super().__init__()
        import timm  # noqa: PLC0415 - only networks with such an encoder need it

        if name not in TIMM_ENCODERS:
            raise UserError(
                f"There is no encoder {name!r}",
                where=f"encoder={name!r}",
                mend=f"use one of: {', '.join(TIMM_ENCODERS)}",
            )
        facts = TIMM_ENCODERS[name]
        model: Any = timm.create_model(
            facts.architecture,
            pretrained=False,
            features_only=True,
            in_chans=input_channels,
            **facts.options,
        )
        self.model = model
        self.norms = facts.norms
        self.channels: list[int] = model.feature_info.channels()
        self.reductions: list[int] = model.feature_info.reduction()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps ``(B, channels[i], H / reductions[i], W / reductions[i])`` from shallow to deep.

        Args:
            image: ``(B, input_channels, H, W)``, sides multiples of the last reduction.
        """
        return [channels_last(x) for x in self.model(image)]

    def fused(self) -> nn.Module:
        """Fold batch norms that are attributes beside their convolutions."""
        for module in self.model.modules():
            for conv, norm in self.norms.items():
                if hasattr(module, conv) and hasattr(module, norm):
                    fold_attributes(module, conv, norm)
        return self
