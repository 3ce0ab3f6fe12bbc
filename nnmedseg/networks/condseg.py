"""ConDSeg, which lets foreground and background features contrast inside every window.

Paper: "ConDSeg: A General Medical Image Segmentation Framework via Contrast-Driven Feature
Enhancement", AAAI 2025; code Mengqi-Lei/ConDSeg at e6a314b. That code is for research and education
only; this module is written from a description of what it computes.

An encoder's deepest features are decoupled into foreground, background and uncertainty (SID). The
first two guide the aggregation of the features of all levels (CDFA), which three decoders (SAD)
bring together. Modules have the paper's names. This is the network of the second training stage;
the first stage's is in `condseg_stage1`.

What differs from the authors' code:

- It returns logits; theirs ends in sigmoids, and its losses apply a second one.
- Image channels, classes, width and heads are free. The three auxiliary outputs always have one
  channel.
- The auxiliary heads and the uncertainty branch, which nothing else depends on, are computed only
  under deep supervision.
- CDFA collects each pixel's window weights into one 5 x 5 kernel: the same up to rounding.
- A channel attention adds its two branches before the last convolution: the same up to rounding.
- Both encoders are timm's, which have the same outputs and other names.

Kept from the code where the paper describes something else: CDFA runs foreground first and folds
in between; the fold is a plain sum; the decoders are brought together by concatenation.

Height and width are multiples of 16 with the ResNet and of 32 with the transformer. Training needs
more than one value a channel in the deepest map: two images or a larger one.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks._registry import register_network
from nnmedseg.networks.cards.condseg import CONDSEG
from nnmedseg.networks.fusing import Fusable
from nnmedseg.networks.layers.cbr import CBR
from nnmedseg.networks.layers.contrast_aggregation import CDFA
from nnmedseg.networks.layers.convolution import PointwiseSum, add_identity
from nnmedseg.networks.layers.resampling import enlarge
from nnmedseg.networks.layers.timm_encoder import TimmEncoder

CHANNEL_REDUCTION = 16


class ChannelAttention(nn.Module):
    """Weighs the channels by what two shared convolutions make of their mean and maximum."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // CHANNEL_REDUCTION
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        mean = functional.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        maximum = functional.relu(self.squeeze(x.amax(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(mean + maximum))


class SpatialAttention(nn.Module):
    """Weighs the pixels by a convolution over the mean and maximum of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(summary))


class DilConv(nn.Module):
    """Four convolutions of growing reach, weighed, brought together and added to a shortcut."""

    dilations = (6, 12, 18)

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        cbrs = [CBR(in_channels, channels, 1)]
        cbrs += [CBR(in_channels, channels, dilation=dilation) for dilation in self.dilations]
        self.branches = nn.ModuleList(
            nn.Sequential(cbr, ChannelAttention(channels)) for cbr in cbrs
        )
        self.fuse = CBR(len(cbrs) * channels, channels, activation=False)
        self.shortcut = CBR(in_channels, channels, 1, activation=False)
        self.attention = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H, W)``."""
        fused = self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))
        return self.attention(functional.relu(fused + self.shortcut(x)))


class Alignment(nn.Module):
    """Brings decoupled features to the size of a level, in steps of two.

    Args:
        channels: Channels of the features.
        steps: How often their size is doubled.
    """

    def __init__(self, channels: int, steps: int):
        super().__init__()
        self.cbrs = nn.ModuleList(CBR(channels, channels) for _ in range(steps + 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, 2**steps * H, 2**steps * W)``."""
        x = self.cbrs[0](x)
        for cbr in self.cbrs[1:]:
            x = cbr(enlarge(x))
        return x


class AuxiliaryHead(nn.Module):
    """One map at the image's size from decoupled features, doubled between the convolutions."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.cbrs = nn.ModuleList(CBR(*pair) for pair in itertools.pairwise(widths))
        self.project = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, widths[0], H, W)`` to logits ``(B, 1, s H, s W)``; s = 2**(len(widths) - 2)."""
        x = self.cbrs[0](x)
        for cbr in self.cbrs[1:]:
            x = cbr(enlarge(x))
        return self.project(x)


class SAD(nn.Module, Fusable):
    """Size-aware decoder: a deep and a shallow map, through convolutions that all add up."""

    def __init__(self, channels: int):
        super().__init__()
        self.fuse = CBR(2 * channels, channels, 1)
        self.conv1, self.conv2, self.conv3 = (
            CBR(channels, channels, size, activation=False) for size in (3, 3, 1)
        )
        self.attention = nn.Sequential(ChannelAttention(channels), SpatialAttention())

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """``(B, C, H / 2, W / 2)`` and ``(B, C, H, W)`` to ``(B, C, H, W)``."""
        x = self.fuse(torch.cat([enlarge(deep), shallow], dim=1))
        y = functional.relu(self.conv1(x) + x)
        both = x + y
        z = functional.relu(self.conv2(y) + both)
        return self.attention(functional.relu(self.conv3(z) + (both + z)))

    def fused(self) -> nn.Module:
        """Project the deep map before enlarging it, and put shortcuts into convolutions."""
        return FusedSAD(self)


class FusedSAD(nn.Module):
    """`SAD` for inference: no concatenation, and no shortcut past a convolution.

    Args:
        sad: One whose children are fused; they are used up.
    """

    def __init__(self, sad: Any):
        super().__init__()
        fuse = sad.fuse[0]
        deep, shallow = fuse.weight.flatten(1).chunk(2, dim=1)
        self.deep, self.shallow = PointwiseSum(deep, None), PointwiseSum(shallow, fuse.bias)
        self.conv1, self.conv2, self.conv3 = map(add_identity, (sad.conv1, sad.conv2, sad.conv3))
        self.attention = sad.attention

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """``(B, C, H / 2, W / 2)`` and ``(B, C, H, W)`` to ``(B, C, H, W)``."""
        x = functional.relu(enlarge(self.deep(deep)) + self.shallow(shallow))
        y = functional.relu(self.conv1(x))
        z = functional.relu(self.conv2(y) + x)
        return self.attention(functional.relu(self.conv3(z) + x + y))


class OutputBlock(nn.Module):
    """Logits at the image's size from the three decoders.

    Args:
        channels: Channels of each decoder.
        num_classes: Channels of the logits.
        scale: The image's size over that of the finest decoder.
    """

    def __init__(self, channels: int, num_classes: int, scale: int):
        super().__init__()
        self.scale = scale
        self.fuse = CBR(3 * channels, channels)
        self.refine = nn.Sequential(CBR(channels, channels), CBR(channels, channels // 2, 1))
        self.project = nn.Conv2d(channels // 2, num_classes, 1)

    def forward(self, small: Tensor, middle: Tensor, large: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` and a half and a quarter of it to ``(B, K, scale H, scale W)``."""
        fused = self.fuse(torch.cat([small, enlarge(middle), enlarge(large, 4)], dim=1))
        return self.project(self.refine(enlarge(fused, self.scale)))


def _sid(in_channels: int, channels: int) -> nn.Sequential:
    """One of the three stacks of semantic information decoupling (SID)."""
    return nn.Sequential(
        CBR(in_channels, in_channels // 2),
        CBR(in_channels // 2, channels),
        CBR(channels, channels, 1),
    )


def _auxiliary_widths(channels: int, reduction: int) -> list[int]:
    if reduction == 16:
        return [channels, 2 * channels, 2 * channels, channels, channels // 2, channels // 2]
    return [channels] * 4 + [channels // 2, channels // 2, channels // 4]


@register_network("condseg", CONDSEG)
class ConDSeg(SegmentationNetwork):
    """ConDSeg; see the module's text and `SegmentationNetwork`.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        deep_supervision: Whether to return the auxiliary logits too.
        encoder: ``resnet50`` or ``pvt_v2_b2``; see `TIMM_ENCODERS`.
        width: Channels of everything between the encoder and the heads, a multiple of 16.
        heads: Heads of the CDFA, a divisor of ``width``.

    Attributes:
        size_divisor: 16 with the ResNet, 32 with the transformer; the class's suits both.
        min_size: The same.

    Raises:
        UserError: There is no such encoder, or ``width`` does not fit.
    """

    size_divisor = 32
    min_size = 32
    auxiliary_outputs = ("foreground", "background", "uncertainty")

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        encoder: str = "resnet50",
        width: int = 128,
        heads: int = 4,
    ):
        super().__init__(
            input_channels,
            num_classes,
            deep_supervision=deep_supervision,
            options={"encoder": encoder, "width": width, "heads": heads},
        )
        if width % CHANNEL_REDUCTION or width % heads:
            raise UserError(
                f"ConDSeg's width is a multiple of {CHANNEL_REDUCTION} and of its heads",
                where=f"width={width}, heads={heads}",
                mend="use the paper's 128 and 4, or a width that both divide",
            )
        self.encoder = TimmEncoder(encoder, input_channels)
        self.size_divisor = self.min_size = self.encoder.reductions[-1]
        channels = self.encoder.channels
        levels = range(4)
        self.dil_convs = nn.ModuleList(DilConv(below, width) for below in channels)
        self.sid = nn.ModuleDict(
            {kind: _sid(channels[-1], width) for kind in self.auxiliary_outputs}
        )
        self.align_foreground = nn.ModuleList(Alignment(width, 3 - level) for level in levels)
        self.align_background = nn.ModuleList(Alignment(width, 3 - level) for level in levels)
        self.cdfas = nn.ModuleList(
            CDFA(width if level == 3 else 2 * width, width, heads) for level in levels
        )
        self.small, self.middle, self.large = SAD(width), SAD(width), SAD(width)
        self.output_block = OutputBlock(width, num_classes, self.encoder.reductions[0])
        head = _auxiliary_widths(width, self.encoder.reductions[-1])
        self.auxiliary_heads = nn.ModuleDict(
            {kind: AuxiliaryHead(head) for kind in self.auxiliary_outputs}
        )

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's, see `SegmentationNetwork.encoder_parameters`."""
        return list(self.encoder.parameters())

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment images ``(B, input_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes, H, W)``, or with deep supervision a list of them and of the
            foreground, background and uncertainty logits ``(B, 1, H, W)``.

        Raises:
            SizeError: Height or width is no multiple of ``size_divisor``.
        """
        features = self.encoder(self.prepare(image))
        foreground = self.sid["foreground"](features[-1])
        background = self.sid["background"](features[-1])
        small, middle, large = self._decode(self._aggregate(features, foreground, background))
        logits = self.output_block(small, middle, large)
        if not self.deep_supervision:
            return cast(Tensor, logits)
        decoupled = [foreground, background, self.sid["uncertainty"](features[-1])]
        heads = self.auxiliary_heads.values()
        return [logits, *(head(x) for head, x in zip(heads, decoupled, strict=True))]

    def _aggregate(
        self, features: list[Tensor], foreground: Tensor, background: Tensor
    ) -> list[Tensor]:
        """CDFA's outputs, shallow to deep: ``width`` channels at each level's size."""
        aggregated: list[Tensor] = []
        for level in reversed(range(len(features))):
            x = self.dil_convs[level](features[level])
            if aggregated:
                x = torch.cat([x, enlarge(aggregated[0])], dim=1)
            foreground_guide = self.align_foreground[level](foreground)
            background_guide = self.align_background[level](background)
            aggregated.insert(0, self.cdfas[level](x, foreground_guide, background_guide))
        return aggregated

    def _decode(self, aggregated: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        finest, fine, coarse, coarsest = aggregated
        return self.small(fine, finest), self.middle(coarse, fine), self.large(coarsest, coarse)
