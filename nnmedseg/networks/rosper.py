"""RoSPER-Net, with spatial prompting and cross-scale edge refinement.

Paper: "Robust Medical Image Segmentation with Spatial Prompting and Cross-Scale Edge Refinement";
code ILoveESWA/RoSPERNet at a57178d, Apache-2.0.

A U-shaped network of four encoder stages (SPE) and four decoder stages (CSED), additive skip
connections (Connect) and a prediction head (PH) on every decoder stage. Modules have the paper's
names.

What differs from the authors' code:

- It returns logits; theirs ends in a sigmoid.
- Image channels and classes are free; deep supervision can be switched off.
- The four channel groups of a PMM go through their one Mamba block together, stacked along the
  batch, instead of one after the other: the same numbers up to rounding.
- Heads and connections project the small map before they enlarge it: the same up to rounding.
- Their encoder names a class that does not exist; SPM is meant (the published number of
  parameters fits to the last digit).
- Unused layers and arguments (a fifth scale factor, for one) are left out.

Height and width are multiples of 16. Training needs a batch of at least two, because CPB
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
from nnmedseg.networks.cards.rosper import ROSPER
from nnmedseg.networks.fusing import Fusable
from nnmedseg.networks.layers.convolution import (
    conv_norm,
    convolutional_feed_forward,
    depthwise_norm,
)
from nnmedseg.networks.layers.deformable import DeformableDepthwiseConv2d
from nnmedseg.networks.layers.gates import ChannelGate, SpatialGate
from nnmedseg.networks.layers.mamba import GroupedMamba
from nnmedseg.networks.layers.multi_scale import MultiScaleBranches, ProjectedBranches
from nnmedseg.networks.layers.resampling import EnlargedPointwise


class CPB(ChannelGate):
    """Channel-prior block: weighs the channels by their global maximum and mean."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same; in training the batch must hold two samples or more."""
        return super().forward(x) * x


class SPB(SpatialGate):
    """Space-prior block: weighs the pixels by their neighbourhood's mean and maximum."""

    def __init__(self, channels: int):
        super().__init__(channels, channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return super().forward(x) * x


class SPM(nn.Module):
    """Self-prompting module: CPB, then SPB, then the prompt generator."""

    def __init__(self, channels: int):
        super().__init__()
        self.cpb = CPB(channels)
        self.spb = SPB(channels)
        self.generator = conv_norm(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to a prompt ``(B, 1, H, W)``."""
        return self.generator(self.spb(self.cpb(x)))


class PMM(nn.Module):
    """Parallel Mamba module: one Mamba block for four groups of channels, then convolutions."""

    def __init__(self, channels: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = GroupedMamba(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.batch_norm = nn.BatchNorm2d(channels)
        self.feed_forward = convolutional_feed_forward(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` to two maps of that shape: Mamba's features, and these fed forward."""
        batch, channels, height, width = x.shape
        tokens = self.norm(x.permute(0, 2, 3, 1).reshape(batch, height * width, channels))
        maps = self.mamba(tokens).view(batch, height, width, channels).permute(0, 3, 1, 2)
        features = self.batch_norm(maps)
        return features, self.feed_forward(features)


class SPE(nn.Module):
    """Self-prompting encoder stage: convolution, PMM, and a prompt before and after it.

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
        self.conv = nn.Sequential(*conv_norm(in_channels, channels, 3), nn.ReLU())
        self.pmm = PMM(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.prompt_before = SPM(channels)
        self.prompt_after = SPM(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H, W)``, halved if it pools."""
        x = self.conv(self.pool(x))
        features, output = self.pmm(x)
        return output + self.prompt_before(x) + self.prompt_after(features)


class MSFE(MultiScaleBranches, Fusable):
    """Multi-scale feature extraction (MSEA in the figure): eight depthwise branches, fused.

    Four kernels at the map's own scale, two at twice and two at half of it.
    """

    def __init__(self, channels: int):
        super().__init__(
            same=(self._branch(channels, size) for size in (3, 7, 11, 15)),
            enlarged=(self._branch(channels, size) for size in (3, 11)),
            reduced=(self._branch(channels, size) for size in (3, 11)),
        )
        self.fuse = conv_norm(8 * channels, channels)

    @staticmethod
    def _branch(channels: int, kernel_size: int) -> nn.Sequential:
        return nn.Sequential(
            *depthwise_norm(channels, kernel_size), nn.ReLU(), *conv_norm(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same; height and width are even."""
        return self.fuse(super().forward(x))

    def fused(self: Any) -> nn.Module:
        """Multiply the branches' last convolutions and `fuse` into one."""
        return ProjectedBranches(self, self.fuse)


class NSB(nn.Module):
    """Noise suppression block: weighs the map by its context's deviation from the local mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.context = depthwise_norm(channels, 15)
        self.gate = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        context = self.context(x)
        deviation = context - functional.avg_pool2d(context, 3, 1, 1)
        return torch.sigmoid(self.gate(deviation)) * x


class DADCB(nn.Module):
    """Direction-aware deformable convolution block: strips along rows and columns set offsets."""

    def __init__(self, channels: int):
        super().__init__()
        self.horizontal = depthwise_norm(channels, (1, 15))
        self.vertical = depthwise_norm(channels, (15, 1))
        self.local = depthwise_norm(channels, 3)
        self.offset = conv_norm(channels, 18)
        self.deformable = DeformableDepthwiseConv2d(channels)
        self.fuse = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        gates = (self.horizontal, self.vertical, self.local)
        weighted = sum(torch.sigmoid(gate(x)) for gate in gates) * x
        return self.fuse(self.deformable(x, self.offset(weighted))) * x


class DCT(nn.Module):
    """Dynamic contour tracking module: DADCB and NSB side by side, fused."""

    def __init__(self, channels: int):
        super().__init__()
        self.dadcb = DADCB(channels)
        self.nsb = NSB(channels)
        self.fuse = conv_norm(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return self.fuse(torch.cat([self.dadcb(x), self.nsb(x)], dim=1))


class CSED(nn.Module):
    """Cross-scale edge-refining decoder stage: MSFE, then DCT."""

    def __init__(self, channels: int):
        super().__init__()
        self.msfe = MSFE(channels)
        self.dct = DCT(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return self.dct(self.msfe(x))


class Connect(nn.Module):
    """Skip connection: the encoder's map plus the enlarged, projected map from below."""

    def __init__(self, below: int, channels: int):
        super().__init__()
        self.project = EnlargedPointwise(*conv_norm(below, channels))

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """``(B, channels, H, W)`` and ``(B, below, H/2, W/2)`` to ``(B, channels, H, W)``."""
        return encoded + self.project(decoded)


@register_network("rosper", ROSPER)
class RoSPERNet(UShapedNetwork):
    """RoSPER-Net; see the module's text and `SegmentationNetwork`.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        deep_supervision: Whether to return the logits of all four decoder stages.
        widths: Channels of the four stages, multiples of 4, finest first.
        d_state: States of each feature of the Mamba blocks.
        d_conv: Taps of their causal convolution.
        expand: Their inner width over their width.
    """

    encoder_stage, decoder_stage, connection = SPE, CSED, Connect

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        widths: Sequence[int] = (16, 32, 48, 64),
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
