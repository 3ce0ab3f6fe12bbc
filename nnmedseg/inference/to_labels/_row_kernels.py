"""Rows of logits for compiled kernels, which work on them in threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnmedseg.inference.to_labels import _reduction_kernels as kernels
from nnmedseg.inference.to_labels._resampling import AxisTaps
from nnmedseg.ops._threads import run_in_threads


def find_winners(logits: torch.Tensor) -> npt.NDArray[np.int16]:
    """Return the class of the largest logit of each voxel, of logits ``(K, Z, Y, X)``."""
    _, rows, lines, columns = logits.shape
    out = np.empty((rows, lines, columns), np.int16)
    slab = _as_slab(logits)
    if slab.steps[2] == columns:  # lines that lie one behind the other are as one
        out = out.reshape(rows, 1, lines * columns)
    parts = out.shape[0] * out.shape[1] * -(-out.shape[2] // kernels.COLUMNS)
    _share(lambda part: kernels.find_winners(slab, part, out), parts)
    return out.reshape(rows, lines, columns)


def resize_winners(
    logits: torch.Tensor,
    winners: npt.NDArray[np.int16],
    taps: Sequence[AxisTaps],
    *,
    rounds: bool,
) -> npt.NDArray[np.int16]:
    """Return the class of the largest resampled logit of each voxel.

    Args:
        logits: ``(K, Z, Y, X)``.
        winners: ``(Z, Y, X)``, the classes of the largest logits before resampling.
        taps: Of z, y and x.
        rounds: Whether resampled logits are rounded to float16 before they are compared.
    """
    out = np.empty(tuple(map(len, taps)), np.int16)
    slab, given = _as_slab(logits, rounds=rounds), _as_taps(taps)
    _share(
        lambda lines: kernels.resize_winners(slab, winners, given, lines, out),
        out.shape[0] * out.shape[1],
    )
    return out


def interpolate(logits: torch.Tensor, taps: Sequence[AxisTaps]) -> torch.Tensor:
    """Return resampled logits ``(K, Z', Y', X')`` float32.

    Args:
        logits: ``(K, Z, Y, X)``.
        taps: Of z, y and x.
    """
    out = np.empty((len(logits), *map(len, taps)), np.float32)
    slab, given = _as_slab(logits), _as_taps(taps)
    _share(
        lambda lines: kernels.interpolate(slab, given, lines, out),
        out.shape[1] * out.shape[2],
    )
    return torch.from_numpy(out)


def _as_slab(logits: torch.Tensor, *, rounds: bool = False) -> kernels.Slab:
    """Describe a part of a larger array without a copy of it."""
    if logits.stride(3) != 1:
        logits = logits.contiguous()
    of_class, of_row, of_line, _ = logits.stride()
    last = sum((n - 1) * step for n, step in zip(logits.shape, logits.stride(), strict=True))
    memory = logits.as_strided((last + 1,), (1,))
    if memory.dtype == torch.float16:
        memory = memory.view(torch.int16)
    steps = (of_class, of_row, of_line)
    return kernels.Slab(memory.numpy(), 0, steps, len(logits), rounds)


def _as_taps(taps: Sequence[AxisTaps]) -> tuple[kernels.Taps, ...]:
    return tuple(
        kernels.Taps(*map(np.ascontiguousarray, (axis.first, axis.second, axis.weights)))
        for axis in taps
    )


def _share(work: Callable[[tuple[int, int]], Any], count: int) -> None:
    """Cut numbers from 0 to ``count`` into parts for PyTorch's number of threads."""
    parts = max(1, min(count, torch.get_num_threads()))
    bounds = [count * part // parts for part in range(parts + 1)]
    run_in_threads(work, list(itertools.pairwise(bounds)))
