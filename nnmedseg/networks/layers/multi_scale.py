"""Branches over one map at three scales (RoSPER-Net's MSFE, ASC-Seg's MSFA)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

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
