"""Losses are computed in float32 whatever autocast does to the network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnmedseg.ops._precision import at_least_float32, without_autocast

_Compute = Callable[..., Tensor]


def in_float32(compute: _Compute) -> _Compute:
    """Decorate a loss term: autocast is left, and float tensors come in float32 (or float64)."""

    @functools.wraps(compute)
    def wrapped(*arguments: Any, **options: Any) -> Tensor:
        device = next(a.device.type for a in arguments if isinstance(a, Tensor))
        widened = [_widened(argument) for argument in arguments]
        with without_autocast(device):
            return compute(*widened, **options)

    return wrapped


def _widened(argument: Any) -> Any:
    if isinstance(argument, Tensor) and argument.dtype.is_floating_point:
        return argument.to(at_least_float32(argument.dtype))
    if isinstance(argument, Tensor):
        return argument.to(torch.get_default_dtype())
    return argument
