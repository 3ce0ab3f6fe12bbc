"""Batches in parts, where the device's memory does not hold a whole one."""

from __future__ import annotations

from typing import Any

import torch

from nnmedseg.errors import UserError

_SIGNS = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
_ONE_VALUE = "Expected more than 1 value per channel"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory was lacking, in PyTorch or a library under it."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def is_too_small_for_batch_norm(error: BaseException) -> bool:
    """Tell whether a batch norm had a single number to take the statistics of."""
    return isinstance(error, ValueError) and _ONE_VALUE in str(error)


def part_of(batch: Any, index: int, parts: int) -> Any:
    """Return every ``parts``-th image of a tensor, or of each tensor of a list.

    nnU-Net's batches hold the patches that are sure to have foreground at their end: taken in
    turns, each part has its share of them.
    """
    if isinstance(batch, (list, tuple)):
        return [part_of(each, index, parts) for each in batch]
    return batch[index::parts]


def does_not_fit(device: torch.device, error: str, why: str) -> UserError:
    """Return the error of a step that does not fit into memory, and why it is not divided."""
    reason = error.splitlines()[0] if error else "out of memory"
    return UserError(
        f"a training step does not fit into the memory of {device.type}, {why}: {reason}",
        where="the patch size and network of the plans",
        mend="end what else uses the device and run the same command again, which goes on from the "
        "last checkpoint; or train anew with a smaller --patch-size or --batch-size, or plan with "
        "a smaller --gpu-memory",
    )
