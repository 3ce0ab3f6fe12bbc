"""The memory layout of maps: channels_last on CPUs and CUDA devices.

There convolutions of every width run fastest in it (wide depthwise ones on a CPU by ten times, and
tensor cores work in it), and the same memory is a grid of tokens for layer norms, linear layers and
scans. Other devices keep the layout that they are given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnmedseg.ops._simulated_device import device_type

_DEVICES = ("cpu", "cuda")


def channels_last(maps: Tensor) -> Tensor:
    """Maps ``(B, C, H, W)`` in channels_last if their device likes it."""
    if device_type(maps) not in _DEVICES:
        return maps
    if maps.shape[1] == 1:
        # One channel is in both layouts at once; only a copy makes convolutions answer in this one.
        return maps.clone(memory_format=torch.channels_last)
    return maps.contiguous(memory_format=torch.channels_last)


def lay_out_weights(network: nn.Module, device: torch.device) -> None:
    """Keep a network's weights of convolutions in the layout of its maps on a device.

    Otherwise every call copies them. Call it before an optimiser is made, whose state takes the
    layout of the weights.
    """
    if device.type not in _DEVICES:
        return
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
