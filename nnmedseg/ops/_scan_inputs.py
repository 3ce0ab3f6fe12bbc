"""What every form of the selective scan is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScanInputs:
    """The arguments of `selective_scan`."""

    u: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None
    dt_softplus: bool

    def to(self, dtype: torch.dtype) -> ScanInputs:
        """The same with all tensors in ``dtype``."""
        tensors: dict[str, Any] = {
            field.name: getattr(self, field.name).to(dtype)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


ScanForm = Callable[[ScanInputs], tuple[Tensor, Tensor]]
"""A form of the scan: from its inputs to the output (B, L, D) and the last state (B, D, N)."""
