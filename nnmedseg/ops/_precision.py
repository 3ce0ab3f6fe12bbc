"""Leaving autocast on any device, also on those that have none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """A context in which nothing is cast; devices without autocast (``meta``) need none."""
    try:
        return torch.autocast(device_type, enabled=False)
    except RuntimeError:
        return nullcontext()


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type to accumulate in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
