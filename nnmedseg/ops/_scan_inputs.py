"""What every form of the selective scan is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

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
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v.to(dtype) for k, v in values.items() if isinstance(v, Tensor)})


ScanForm = Callable[[ScanInputs], tuple[Tensor, Tensor]]
"""A form of the scan: from its inputs to the output (B, L, D) and the last state (B, D, N)."""
