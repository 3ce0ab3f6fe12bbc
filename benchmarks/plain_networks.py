"""RoSPER-Net and ASC-Seg with their slow modules as the authors' code has them.

What is exchanged, module by module, in a network of ours that keeps its weights:

- Mamba blocks: tokens laid out ``(B, D, L)`` inside, an ordinary `Conv1d`, and one call of the
  block for each of the four channel groups;
- the deformable convolution: torchvision's;
- depthwise convolutions: PyTorch's own;
- the layout: images come in NCHW, and nothing is moved to channels_last.

The scan inside is a choice: the sequential one, for the authors' modules as they are on a CPU, or
ours. What our networks otherwise save (heads and connections that project before they enlarge) is
in these networks too, so the ratios are a little too small.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from peers import native_depthwise, sequential_scan, torchvision_deformable
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.layers.deformable import DeformableDepthwiseConv2d
from nnmedseg.networks.layers.depthwise import DepthwiseConv2d
from nnmedseg.networks.layers.mamba import GroupedMamba
from nnmedseg.ops import selective_scan

Scan = Callable[..., Tensor]
"""Arguments and result as of `sequential_scan`."""


def our_scan(*inputs: Tensor) -> Tensor:
    """Our scan in the place of `sequential_scan`."""
    u, dt, rates, b, c, skip, gate, bias = (x.transpose(1, 2) if x.ndim == 3 else x for x in inputs)
    out = selective_scan(u, dt, rates, b, c, D=skip, z=gate, dt_bias=bias, dt_softplus=True)
    return cast(Tensor, out).transpose(1, 2)


def plain_network(network: nn.Module, scan: Scan = sequential_scan) -> nn.Module:
    """A copy of the network, with the same weights and mode, whose modules are the plain ones."""
    plain = copy.deepcopy(network)
    plain.prepare = Tensor.contiguous  # type: ignore[assignment]
    for module in plain.modules():
        if isinstance(module, GroupedMamba):
            module.forward = partial(_mamba_by_groups, module, scan)
        elif isinstance(module, DeformableDepthwiseConv2d):
            module.forward = partial(_deformable, module)
        elif isinstance(module, DepthwiseConv2d):
            module.forward = partial(_depthwise, module)
    return plain


def _mamba_by_groups(block: GroupedMamba, scan: Scan, x: Tensor) -> Tensor:
    """The block on each group of channels of the tokens ``(B, L, C)``, added to its input."""
    groups = x.chunk(block.groups, dim=-1)
    return torch.cat([_mamba(block, scan, group) + group for group in groups], dim=-1)


def _mamba(block: GroupedMamba, scan: Scan, x: Tensor) -> Tensor:
    u, gate = block.in_proj(x).transpose(1, 2).chunk(2, dim=1)
    u = functional.silu(block.conv1d(u)[..., : x.shape[1]])
    sizes = [block.dt_rank, block.d_state, block.d_state]
    dt, b, c = block.x_proj(u.transpose(1, 2)).split(sizes, dim=-1)
    dt = (dt @ block.dt_proj.weight.t()).transpose(1, 2)
    rates = -torch.exp(block.A_log)
    b, c = (vectors.transpose(1, 2).contiguous() for vectors in (b, c))
    y = scan(u, dt, rates, b, c, block.D, gate, block.dt_proj.bias)
    return block.out_proj(y.transpose(1, 2))


def _deformable(layer: DeformableDepthwiseConv2d, x: Tensor, offset: Tensor) -> Tensor:
    return torchvision_deformable(x, offset, layer.weight)


def _depthwise(layer: DepthwiseConv2d, x: Tensor) -> Tensor:
    return native_depthwise(x, layer.weight, layer.bias)
