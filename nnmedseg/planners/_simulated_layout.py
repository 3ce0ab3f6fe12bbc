"""The memory layout in which convolutions answer on a device, on ``meta``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode


class SimulatedLayout(TorchDispatchMode):
    """Lets convolutions answer in channels_last if their input or weight is laid out so.

    oneDNN and cuDNN do so, while ``meta`` forgets the layout, after which a network that wants it
    would copy maps that on a device are in it already.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation; lay out what a convolution returns."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            return _laid_out(result, args[:2])
        if func is torch.ops.aten.convolution_backward.default:
            grad_input, *others = result
            return _laid_out(grad_input, args[1:3]), *others
        return result


def _laid_out(maps: Tensor | None, like: Sequence[Tensor]) -> Tensor | None:
    if maps is None:
        return None
    layouts = {suggest_memory_format(tensor) for tensor in like} - {torch.contiguous_format}
    return maps.contiguous(memory_format=layouts.pop()) if layouts else maps
