"""ASC-Seg, with structure alignment in the skip connections and cross-scale decoding.

Paper: "Adaptive Structure Alignment and Cross-scale Decoding for Medical Image Segmentation"; code
ILoveBSPC/ASC-Seg at c1a81be, Apache-2.0. An older release, ILoveIcme2025/ASC-Seg at ebc1613, has
the same network.

A U-shaped network of four encoder stages (ASE) and four decoder stages (CNSD), gated skip
connections (FAC) and a prediction head (PH) on every decoder stage. Modules have the paper's
names. SAB and CAB differ from RoSPER-Net's blocks of these names: they keep their input.

What differs from the authors' code:

- It returns logits; theirs ends in a sigmoid.
- Image channels and classes are free; deep supervision can be switched off.
- The default widths are those of the authors' training script, to which the published number of
  parameters belongs; their figure shows twice these, and their class's own default does not run.
- The four channel groups of a PMB go through its one Mamba block together, stacked along the
  batch, instead of one after the other: the same numbers up to rounding.
- Heads and connections project the small map before they enlarge it: the same up to rounding.
- Unused arguments (``pool_scale``, ``sig``, a fifth scale factor) are left out.

Where the figures and the code disagree, this follows the code: one LayerNorm at three places of
the PMB, one Mamba block for its four groups, a deformable convolution fed by the projected map
only, a grouped convolution at the end of MSFA, ReLU after a CNSD's sum, FAC in every connection.

Height and width are multiples of 16. Training needs a batch of at least two, because CAB
normalises one value a channel and sample over the batch; evaluation does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks._registry import register_network
from nnmedseg.networks._u_shaped import UShapedNetwork
from nnmedseg.networks.cards.asc import ASC
from nnmedseg.networks.fusing import Fusable, fold, folded
from nnmedseg.networks.layers.convolution import (
    conv_norm,
    convolutional_feed_forward,
    depthwise_norm,
)
from nnmedseg.networks.layers.deformable import DeformableDepthwiseConv2d
from nnmedseg.networks.layers.gates import ChannelGate, SpatialGate
from nnmedseg.networks.layers.mamba import GroupedMamba
from nnmedseg.networks.layers.multi_scale import MultiScaleBranches
from nnmedseg.networks.layers.resampling import EnlargedPointwise


class IPCB(nn.Sequential):
    """Inverted pyramid convolution block: kernels of 7, 3 and 1, each normalised, with ReLU."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__(
            *conv_norm(in_channels, channels, 7),
            nn.ReLU(),
            *conv_norm(channels, channels, 3),
            nn.ReLU(),
            *conv_norm(channels, channels, 1),
            nn.ReLU(),
        )


class PMB(nn.Module):
    """Parallel Mamba block: one Mamba block for four groups of channels, then convolutions."""

    def __init__(self, channels: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = GroupedMamba(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.project = nn.Linear(channels, channels)
        self.feed_forward = convolutional_feed_forward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same. The one norm serves at three places, as in the paper."""
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        mixed = tokens + self.project(self.norm(self.mamba(self.norm(tokens))))
        maps = self.norm(mixed).view(batch, height, width, channels).permute(0, 3, 1, 2)
        return self.feed_forward(maps)


class DCB(nn.Module):
    """Deformable convolution block: weighs the map by features that follow its structure."""

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Sequential(*conv_norm(channels, channels), nn.GELU())
        self.offset = conv_norm(channels, 18, 3)
        self.deformable = DeformableDepthwiseConv2d(channels)
        self.fuse = nn.Sequential(*conv_norm(channels, channels), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        projected = self.project(x)
        return self.fuse(self.deformable(projected, self.offset(projected))) * x + x


class ASE(nn.Module):
    """Adaptive structure encoder stage: IPCB, then PMB and DCB side by side, added.

    Args:
        in_channels: Channels of the image or of the stage before.
        channels: Channels of this stage.
        pool: Whether the map is halved first.
        d_state, d_conv, expand: See `MambaBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        pool: bool,
        d_state: int,
        d_conv: int,
        expand: int,
    ):
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.ipcb = IPCB(in_channels, channels)
        self.pmb = PMB(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.dcb = DCB(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H, W)``, halved if it pools."""
        x = self.ipcb(self.pool(x))
        return self.pmb(x) + self.dcb(x)


class MSFA(MultiScaleBranches):
    """Multi-scale feature aggregation: eight branches of dilated convolutions, fused.

    Four dilations at the map's own scale, two at twice and two at half of it. The fusing
    convolution is grouped: an output channel sees four neighbours of the 4 C concatenated ones.
    """

    def __init__(self, channels: int):
        super().__init__(
            same=(self._branch(channels, dilation) for dilation in (1, 2, 3, 4)),
            enlarged=(self._branch(channels, dilation) for dilation in (1, 3)),
            reduced=(self._branch(channels, dilation) for dilation in (1, 3)),
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(4 * channels, channels, 3, padding=1, groups=channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            *conv_norm(channels, channels),
        )

    @staticmethod
    def _branch(channels: int, dilation: int) -> nn.Sequential:
        half = channels // 2
        return nn.Sequential(
            *conv_norm(channels, half, 3, dilation=dilation), nn.ReLU(), *conv_norm(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same; height and width are even."""
        return self.fuse(super().forward(x))


class DFB(nn.Module, Fusable):
    """Denoising focus block: weighs its context by the deviation from the local mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.contexts = nn.ModuleList(
            nn.Sequential(
                *depthwise_norm(channels, size), nn.GELU(), *conv_norm(channels, channels)
            )
            for size in (7, 5, 3)
        )
        self.context_norm = nn.BatchNorm2d(channels)
        self.gate = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        x = self.norm(x)
        context = self.context_norm(sum(branch(x) for branch in self.contexts))
        deviation = context - functional.avg_pool2d(context, 3, 1, 1)
        return context * torch.sigmoid(self.gate(deviation)) + context

    def fused(self: Any) -> nn.Module:
        """Fold the norm of the sum into the convolutions that end its branches."""
        norm = self.context_norm
        for branch in self.contexts:
            branch[-1] = fold(branch[-1], norm)
            # The first term has the norm's shift; the others need its factor only.
            norm.running_mean.zero_()
            norm.bias.zero_()
        self.context_norm = nn.Identity()
        return self


class SAB(SpatialGate):
    """Spatial attention block: adds the map weighed by its neighbourhood's mean and maximum."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return super().forward(x) * x + x


class CAB(ChannelGate):
    """Channel attention block: adds the map weighed by its channels' maximum and mean."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same; in training the batch must hold two samples or more."""
        return super().forward(x) * x + x


class SFM(nn.Module):
    """Salient focus module: DFB, SAB and CAB, one after the other."""

    def __init__(self, channels: int):
        super().__init__()
        self.dfb = DFB(channels)
        self.sab = SAB(channels)
        self.cab = CAB(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return self.cab(self.sab(self.dfb(x)))


class CNSD(nn.Module, Fusable):
    """Decoder stage: MSFA, then SFM, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.msfa = MSFA(channels)
        self.sfm = SFM(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return functional.relu(self.sfm(self.msfa(x)) + x)

    def fused(self: Any) -> nn.Module:
        """Fold the norm that opens SFM into the convolution that ends MSFA."""
        dfb = self.sfm.dfb
        self.msfa.fuse = folded([*self.msfa.fuse, dfb.norm])
        dfb.norm = nn.Identity()
        return self


class FAC(nn.Module):
    """Feature alignment connector: the encoder's map plus its sigmoid, gated from below."""

    def __init__(self, below: int, channels: int):
        super().__init__()
        self.project = EnlargedPointwise(*conv_norm(below, channels))

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """``(B, channels, H, W)`` and ``(B, below, H/2, W/2)`` to ``(B, channels, H, W)``."""
        gate = torch.sigmoid(self.project(decoded))
        return gate * torch.sigmoid(encoded) + encoded


@register_network("asc", ASC)
class ASCSeg(UShapedNetwork):
    """ASC-Seg; see the module's text and `SegmentationNetwork`.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        deep_supervision: Whether to return the logits of all four decoder stages.
        widths: Channels of the four stages, multiples of 4, finest first.
        d_state: States of each feature of the Mamba blocks.
        d_conv: Taps of their causal convolution.
        expand: Their inner width over their width.
    """

    encoder_stage, decoder_stage, connection = ASE, CNSD, FAC

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        widths: Sequence[int] = (8, 16, 24, 32),
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ):
        super().__init__(
            input_channels,
            num_classes,
            deep_supervision=deep_supervision,
            widths=widths,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
        )
