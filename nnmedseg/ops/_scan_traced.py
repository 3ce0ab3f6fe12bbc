# ruff: noqa: N803, N806 - A, B and C are what the field calls these matrices
"""The selective scan's chunked form in PyTorch's own operators, for exports to ONNX.

The three passes of `_scan_chunked`, written without operators of ours and without writing in place,
since ONNX knows neither. About 11 sqrt(L) operators for L tokens, for the size that is exported.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.ops._scan_inputs import ScanInputs


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Output ``(B, L, D)`` and last state ``(B, D, N)`` of `selective_scan`."""
    delta = inputs.dt if inputs.dt_bias is None else inputs.dt + inputs.dt_bias
    if inputs.dt_softplus:
        delta = functional.softplus(delta)
    y, last_state = _scan(inputs.u, delta, inputs.A, inputs.B, inputs.C)
    if inputs.D is not None:
        y = y + inputs.D * inputs.u
    if inputs.z is not None:
        y = y * functional.silu(inputs.z)
    return y, last_state


def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    steps = max(1, math.isqrt(length))
    chunks = -(-length // steps)
    delta, source, B, C = (_in_chunks(x, chunks, steps) for x in (delta, delta * u, B, C))
    decays = [torch.exp(delta[:, :, t, :, None] * A) for t in range(steps)]
    increments = [source[:, :, t, :, None] * B[:, :, t, None, :] for t in range(steps)]
    end = increments[0]
    for decay, increment in zip(decays[1:], increments[1:], strict=True):
        end = decay * end + increment
    state = _starts(end, torch.exp(delta.sum(2).unsqueeze(-1) * A))
    outputs = []
    for t, (decay, increment) in enumerate(zip(decays, increments, strict=True)):
        state = decay * state + increment
        outputs.append((state * C[:, :, t, None, :]).sum(-1))
    y = torch.stack(outputs, dim=2).reshape(batch, chunks * steps, channels)
    return y[:, :length], state[:, -1]


def _in_chunks(tokens: Tensor, chunks: int, steps: int) -> Tensor:
    """``(B, L, F)`` to ``(B, K, T, F)``; tokens past the end are zero and change no state."""
    missing = chunks * steps - tokens.shape[1]
    padded = functional.pad(tokens, (0, 0, 0, missing))
    return padded.reshape(tokens.shape[0], chunks, steps, tokens.shape[2])


def _starts(ends: Tensor, decays: Tensor) -> Tensor:
    """The states ``(B, K, D, N)`` that chunks start from, of those they end in from zero."""
    state = torch.zeros_like(ends[:, 0])
    starts = [state]
    for chunk in range(ends.shape[1] - 1):
        state = decays[:, chunk] * state + ends[:, chunk]
        starts.append(state)
    return torch.stack(starts, dim=1)
