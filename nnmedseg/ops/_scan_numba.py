# ruff: noqa: N803, N806, PLR0917 - A, B, C and D are what the field calls these matrices
"""The selective scan for CPUs, compiled by numba: see `_scan_numba_kernels`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnmedseg.ops import _scan_numba_kernels as kernels
from nnmedseg.ops._scan_fused import define_scan
from nnmedseg.ops._scan_numba_windows import LOG2_E, WINDOW, Rows
from nnmedseg.ops._simd import LANES
from nnmedseg.ops._threads import run_in_threads

SMALLEST_PART = 2**17
"""State updates below which a second thread costs more than it saves."""


def kept_shape(u_shape: Sequence[int], states: int) -> tuple[int, ...]:
    """One state in every 32 tokens, ``(B, windows, D, N padded to a multiple of 16)``."""
    batch, length, channels = u_shape
    return batch, -(-length // WINDOW), channels, _padded(states)


def forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output ``(B, L, D)``, last states ``(B, D, N)`` and states kept for `backward`."""
    sizes, given = _given(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    out = u.new_empty(u.shape)
    last = u.new_empty(u.shape[0], *A.shape)
    kept = u.new_empty(kept_shape(u.shape, A.shape[1]))
    written = (_rows(out), _flat(last), _flat(kept))
    run_in_threads(
        lambda part: kernels.forward(part, sizes, given, *written),
        _parts(u.shape, sizes.padded),
    )
    return out, last, kept


def backward(
    grad_out: Tensor, grad_last: Tensor, kept: Tensor, *inputs: Any
) -> tuple[Tensor | None, ...]:
    """The gradients of u, dt, A, B, C, D, z and dt_bias, ``None`` where there is no such input."""
    u, _, _, B, _, D, z, dt_bias, _ = inputs
    sizes, given = _given(*inputs)
    parts = _parts(u.shape, sizes.padded)
    columns = sorted({part.first_channel for part in parts})
    grad_u, grad_dt = u.new_empty(u.shape), u.new_empty(u.shape)
    grad_z = u.new_empty(u.shape if z is not None else (0, 0, 0))
    grad_B, grad_C = (B.new_empty(len(columns), *B.shape) for _ in range(2))
    rates = np.zeros((u.shape[0], sizes.channels, sizes.padded))
    skip, bias = np.zeros((2, u.shape[0], sizes.channels))
    upstream = (_rows(grad_out), _flat(grad_last.contiguous()), _flat(kept.contiguous()))

    def run(part: kernels.Part) -> None:
        column = columns.index(part.first_channel)
        tokens = (grad_u, grad_dt, grad_B[column], grad_C[column], grad_z)
        sums = (rates.reshape(-1), skip.reshape(-1), bias.reshape(-1))
        into = kernels.GivenGradients(*(*map(_rows, tokens), *sums))
        kernels.backward(part, sizes, given, *upstream, into)

    run_in_threads(run, parts)
    grad_A = torch.from_numpy(rates.sum(0)[:, : sizes.states]).float()
    grad_D, grad_bias = (torch.from_numpy(x.sum(0)).float() for x in (skip, bias))
    return (
        grad_u,
        grad_dt,
        grad_A,
        *(x[0] if len(columns) == 1 else x.sum(0) for x in (grad_B, grad_C)),
        None if D is None else grad_D,
        None if z is None else grad_z,
        None if dt_bias is None else grad_bias,
    )


scan = define_scan("numba", forward, backward, kept_shape)


def _padded(states: int) -> int:
    return -(-states // LANES) * LANES


def _given(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[kernels.Sizes, kernels.Given]:
    channels, states = A.shape
    sizes = kernels.Sizes(u.shape[1], channels, states, _padded(states))
    rates = np.zeros((channels, sizes.padded), np.float32)
    rates[:, :states] = A.detach().numpy() * LOG2_E
    none = np.zeros(channels, np.float32)
    return sizes, kernels.Given(
        _rows(u),
        _rows(dt),
        _rows(B),
        _rows(C),
        _rows(u.new_empty(0, 0, 0) if z is None else z),
        rates.reshape(-1),
        none if D is None else _flat(D),
        none if dt_bias is None else _flat(dt_bias),
        dt_softplus,
        z is not None,
    )


def _rows(tokens: Tensor) -> Rows:
    """Tokens ``(B, L, F)`` without a copy, unless the features lie apart."""
    if tokens.stride(2) != 1 and tokens.shape[2] > 1:
        tokens = tokens.contiguous()
    steps = zip(tokens.shape, tokens.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in steps) if tokens.numel() else 0
    data = tokens.detach().as_strided((span,), (1,)).numpy()
    return Rows(data, tokens.stride(0), tokens.stride(1))


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1).numpy()


def _parts(u_shape: Sequence[int], padded_states: int) -> list[kernels.Part]:
    """Divide the samples, and if they are too few the channels too, among PyTorch's threads."""
    batch, length, channels = u_shape
    work = batch * length * channels * padded_states
    threads = min(torch.get_num_threads(), max(1, work // SMALLEST_PART))
    columns = _cuts(channels, min(math.ceil(threads / batch), max(1, channels // 8)))
    samples = _cuts(batch, threads)
    return [kernels.Part(*rows, *some) for rows in samples for some in columns]


def _cuts(count: int, pieces: int) -> list[tuple[int, int]]:
    """``[0, count)`` in at most so many pieces that differ by one at most."""
    pieces = min(pieces, count)
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return list(itertools.pairwise(edges))
