"""Where a network runs."""

from __future__ import annotations

import torch

from nnmedseg.errors import UserError


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best one that is there.

    Args:
        name: ``"cuda"``, ``"mps"``, ``"cpu"`` or ``None``.

    Raises:
        UserError: The machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    present = [kind for kind, is_present in available.items() if is_present]
    if name is None:
        return torch.device(present[0])
    if name not in present:
        raise UserError(
            f"PyTorch finds no {name} device here",
            where="--device",
            mend=f"use one of: {', '.join(present)}, or install the PyTorch build for your GPU",
        )
    return torch.device(name)
