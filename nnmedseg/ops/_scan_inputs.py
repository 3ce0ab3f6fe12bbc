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

    def check(self) -> None:
        """Refuse tensors that do not belong together.

        Raises:
            ValueError: A shape is not that of `selective_scan`'s arguments.
        """
        (batch, length, channels), states = self.u.shape, self.A.shape[1]
        expected = {
            "dt": (batch, length, channels),
            "A": (channels, states),
            "B": (batch, length, states),
            "C": (batch, length, states),
            "D": (channels,),
            "z": (batch, length, channels),
            "dt_bias": (channels,),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {shape}")

    def values(self) -> tuple[Any, ...]:
        """The arguments in their order."""
        return tuple(getattr(self, field.name) for field in fields(self))

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
