"""In which numbers a network computes, and what that needs.

``"mixed"`` is nnU-Net's own way: half precision on CUDA, single precision elsewhere.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from nnmedseg.errors import UserError

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_MEND = "leave the option out, or use --precision fp32, which works everywhere"


def resolved_precision(precision: str, device: torch.device) -> str:
    """Return what a recipe's precision means on a device: ``"fp32"``, ``"fp16"`` or ``"bf16"``.

    Raises:
        UserError: The device does not compute in it.
    """
    if precision == "mixed":
        return "fp16" if device.type == "cuda" else "fp32"
    if precision == "fp16" and device.type != "cuda":
        other = " or --precision bf16" if _computes_in_bf16(device) else ""
        raise UserError(
            f"fp16 needs a CUDA device, because its gradients have to be scaled; this is "
            f"{device.type!r}",
            where="--precision fp16",
            mend=f"{_MEND}{other}",
        )
    if precision == "bf16" and not _computes_in_bf16(device):
        raise UserError(
            f"this {device.type} device does not compute in bf16",
            where="--precision bf16",
            mend=_MEND,
        )
    return precision


def safer_precision(precision: str, device: torch.device) -> str:
    """Return one with a larger range than ``precision``; nothing is safer than fp32."""
    return "bf16" if precision == "fp16" and _computes_in_bf16(device) else "fp32"


def safest(*precisions: str) -> str:
    """Return the one with the largest range and the most digits."""
    return max(precisions, key=["fp16", "bf16", "fp32"].index)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which the network runs, whatever context it is entered in."""
    if precision != "fp32":
        return torch.autocast(device.type, dtype=_TYPES[precision])
    if device.type == "cuda":
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def as_float32(outputs: Any) -> Any:
    """Return a tensor, or each tensor of a list, tuple or dictionary, in single precision."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float()
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(as_float32(output) for output in outputs)
    if isinstance(outputs, dict):
        return {name: as_float32(output) for name, output in outputs.items()}
    return outputs
