"""Branches over one map at three scales (RoSPER-Net's MSFE, ASC-Seg's MSFA)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.convolution import PointwiseSum
from nnmedseg.networks.layers.resampling import enlarge


class MultiScaleBranches(nn.Module):
    """Runs branches on a map, on twice and on half of it, and concatenates what they give.

    Args:
        same: Branches at the map's own scale.
        enlarged: Branches on the map enlarged twofold.
        reduced: Branches on the map reduced twofold.
    """

    def __init__(
        self,
        *,
        same: Iterable[nn.Module],
        enlarged: Iterable[nn.Module],
        reduced: Iterable[nn.Module],
    ):
        super().__init__()
        self.same = nn.ModuleList(same)
        self.enlarged = nn.ModuleList(enlarged)
        self.reduced = nn.ModuleList(reduced)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, H and W even, to the branches' maps, concatenated in their order."""
        large, small = enlarge(x), functional.max_pool2d(x, 2)
        maps = [branch(x) for branch in self.same]
        maps += [functional.max_pool2d(branch(large), 2) for branch in self.enlarged]
        maps += [enlarge(branch(small)) for branch in self.reduced]
        return torch.cat(maps, dim=1)


class ProjectedBranches(nn.Module):
    """Branches and a 1x1 convolution of their concatenated maps, for inference.

    Every branch ends in a 1x1 convolution. At the map's own scale and at half of it nothing but
    linear steps lies between this and the projection, so that one product does for both, and maps
    at half the scale are added up before they are enlarged.

    Branches that read the same map keep a convolution each: two kernels in one grouped convolution,
    filled up to the wider, take longer than both.

    Args:
        branches: A `MultiScaleBranches` whose branches are fused: sequences that end in a 1x1
            convolution with bias.
        project: A 1x1 convolution with bias.
    """

    def __init__(self, branches: Any, project: nn.Conv2d):
        super().__init__()
        groups = (branches.same, branches.enlarged, branches.reduced)
        last = [branch[-1] for group in groups for branch in group]
        parts = project.weight.flatten(1).split([conv.out_channels for conv in last], dim=1)
        products = [part @ conv.weight.flatten(1) for part, conv in zip(parts, last, strict=True)]
        # Enlarging and pooling keep a constant, so that all biases can be added at the end.
        bias = project.bias + sum(part @ conv.bias for part, conv in zip(parts, last, strict=True))
        same, small = len(branches.same), len(branches.reduced)
        for conv in last[same:-small]:
            conv.bias = None
        self.same = nn.ModuleList(branch[:-1] for branch in branches.same)
        self.enlarged = branches.enlarged
        self.reduced = nn.ModuleList(branch[:-1] for branch in branches.reduced)
        self.project = PointwiseSum(torch.cat([*products[:same], *parts[same:-small]], 1), bias)
        self.project_reduced = PointwiseSum(torch.cat(products[-small:], 1), None)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, H and W even, to the projection's channels."""
        large, small = enlarge(x), functional.max_pool2d(x, 2)
        maps = [branch(x) for branch in self.same]
        maps += [functional.max_pool2d(branch(large), 2) for branch in self.enlarged]
        reduced = self.project_reduced(*(branch(small) for branch in self.reduced))
        return self.project(*maps) + enlarge(reduced)
