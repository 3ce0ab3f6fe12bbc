"""Leaving autocast on any device, also on those that have none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """A context in which nothing is cast; devices without autocast need none."""
    if device_type == "meta":  # there the planner simulates that of CUDA
        return autocast_switched(enabled=False)
    try:
        return torch.autocast(device_type, enabled=False)
    except RuntimeError:
        return nullcontext()


@contextmanager
def autocast_switched(*, enabled: bool) -> Iterator[None]:
    """Switch CUDA's autocast, which ``torch.autocast`` refuses to do where there is no GPU."""
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", enabled)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type to accumulate in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
