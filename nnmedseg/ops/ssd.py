# ruff: noqa: N803, N806, PLR0917 - A, B, C and D are what the field calls these matrices
"""State-space duality (Dao and Gu, 2024): scans with one decay a head, as matrix products.

Three forms share their arguments, shapes ``(batch, tokens, heads, width)`` for the input ``x``:

- `causal_ssd`, the scan of Mamba-2 from left to right;
- `bidirectional_ssd`, the same for the first half of the heads, from right to left for the others;
- `noncausal_ssd`, one sum over all tokens that every token reads (VSSD, Shi et al., 2024).

The causal form cuts the tokens into chunks. Inside a chunk, and from chunk to chunk, token t sees
token s through ``exp`` of the sum of the log decays between them. These sums are accumulated
segment by segment: never a quotient of exponentials, which overflows, and no difference of long
cumulative sums either, which costs two digits. All of it is float32 (float64 for float64 input),
also under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.ops._precision import at_least_float32, without_autocast

SHORTEST_CHUNK = 64
"""Tokens a chunk up to 16,384 tokens; a chunk's cost grows with it, that of the carry shrinks."""


def causal_ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan the tokens from left to right.

    With the state ``S`` of each head zero before the first token::

        S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_t^T
        y_t = C_t^T S_t + D x_t

    Args:
        x: Input ``(B, L, H, P)``, any length.
        dt: Step sizes ``(B, L, H)``, positive.
        A: Rates ``(H,)``, negative.
        B: Input vectors ``(B, L, G, N)``; head i reads group ``i // (H / G)``.
        C: Output vectors, of the same shape.
        D: Weights of the skip from ``x`` to the output ``(H,)``.

    Returns:
        ``y`` ``(B, L, H, P)`` in float32 (float64), as sums over thousands of tokens are too large
        for half precision.
    """
    wide = at_least_float32(x.dtype)
    with without_autocast(x.device.type):
        x, dt, A, B, C, D = (tensor.to(wide) for tensor in (x, dt, A, B, C, D))
        return torch.addcmul(_by_group(x, dt, A, B, C), D.unsqueeze(-1), x)


def bidirectional_ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan the first half of the heads from left to right and the second from right to left.

    Arguments and result as of `causal_ssd`; the number of groups is even, and each half of the
    heads reads its half of them.
    """
    x, dt, B, C = (_second_half_reversed(tensor) for tensor in (x, dt, B, C))
    return _second_half_reversed(causal_ssd(x, dt, A, B, C, D))


def noncausal_ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Let every token read one state, a weighted sum over all tokens.

    In place of the scan of `causal_ssd`::

        S   = sum_s -dt_s A B_s x_s^T
        y_t = C_t^T S + D x_t

    Arguments and result as of `causal_ssd`, but with one group only. All heads share ``B`` and
    ``C``, so both lines are one matrix product for all of them.
    """
    wide = at_least_float32(x.dtype)
    with without_autocast(x.device.type):
        x, dt, A, B, C, D = (tensor.to(wide) for tensor in (x, dt, A, B, C, D))
        weighted = (x * (-dt * A).unsqueeze(-1)).flatten(2)
        state = B.squeeze(2).transpose(1, 2) @ weighted
        skip = (x * D.unsqueeze(-1)).flatten(2)
        if torch.is_grad_enabled():
            return torch.baddbmm(skip, C.squeeze(2), state).view(x.shape)
        return skip.baddbmm_(C.squeeze(2), state).view(x.shape)  # saves a copy of the skip


def _second_half_reversed(tokens: Tensor) -> Tensor:
    """``(B, L, heads or groups, ...)`` with the order of the tokens reversed in the second half."""
    first, second = tokens.chunk(2, dim=2)
    return torch.cat([first, second.flip(1)], dim=2)


def _by_group(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The causal form without its skip; groups become samples of the batch, each with its heads."""
    batch, _, groups, _ = B.shape
    if groups == 1:
        return _scan(x, dt, dt * A, B.squeeze(2), C.squeeze(2))
    x, dt, log_decay = (
        tensor.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)
        for tensor in (x, dt, dt * A)
    )
    B, C = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (B, C))
    y = _scan(x, dt, log_decay, B, C).unflatten(0, (batch, groups))
    return y.transpose(1, 2).flatten(2, 3)


def _scan(x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """One group: ``x`` ``(B, L, H, P)``, steps ``(B, L, H)``, vectors ``(B, L, N)``."""
    length = x.shape[1]
    steps = chunk_length(length)
    source, log_decay, B, C = (
        _in_chunks(tensor, steps) for tensor in (x * dt.unsqueeze(-1), log_decay, B, C)
    )
    log_decay = log_decay.transpose(2, 3)  # (B, K, H, T)
    y = _within_chunks(source, log_decay, B, C)
    if source.shape[1] > 1:
        starts = _starts(source, log_decay, B)
        reach = torch.exp(log_decay.cumsum(-1)).transpose(2, 3).unsqueeze(-1)
        y = torch.addcmul(y, reach, (C @ starts).view(y.shape))
    y = y.flatten(1, 2)
    return y[:, :length] if y.shape[1] > length else y


def chunk_length(length: int) -> int:
    """Tokens a chunk T: the cost within chunks, ~ L T, balances that of the carry, ~ (L / T)^2."""
    steps = SHORTEST_CHUNK
    while steps**3 < 16 * length:
        steps *= 2
    return min(steps, length)


def _in_chunks(tokens: Tensor, steps: int) -> Tensor:
    """``(B, L, ...)`` to ``(B, K, T, ...)``; tokens past the end are zero and change no state."""
    missing = -tokens.shape[1] % steps
    if missing:
        tokens = functional.pad(tokens, (0, 0) * (tokens.ndim - 2) + (0, missing))
    return tokens.unflatten(1, (-1, steps))


def _segment_sums(values: Tensor) -> Tensor:
    """``(..., T)`` to ``(..., T, T)``: entry (t, s) sums the values after s up to t; -inf before s.

    Each sum is accumulated from its own start.
    """
    length = values.shape[-1]
    ones = torch.ones(length, length, dtype=torch.bool, device=values.device)
    values = values.unsqueeze(-1).expand(*values.shape, length)
    sums = values.masked_fill(ones.triu(), 0).cumsum(-2)
    return sums.masked_fill(ones.triu(1), -torch.inf)


def _within_chunks(source: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """What tokens ``(B, K, T, H, P)`` pass on to those of their own chunk."""
    scores = (C @ B.transpose(2, 3)).unsqueeze(2) * torch.exp(_segment_sums(log_decay))
    return (scores @ source.transpose(2, 3)).transpose(2, 3)


def _starts(source: Tensor, log_decay: Tensor, B: Tensor) -> Tensor:
    """The states that chunks start from, ``(B, K, N, H * P)``.

    First the states that they end in when started from zero, then the carry over the chunks.
    """
    batch, chunks, _, heads, width = source.shape
    later = functional.pad(log_decay, (0, 1))[..., 1:]
    to_end = torch.exp(later.flip(-1).cumsum(-1).flip(-1)).transpose(2, 3).unsqueeze(-1)
    ends = B.transpose(2, 3) @ (source * to_end).flatten(3)
    by_head = ends.view(batch, chunks, -1, heads, width).permute(0, 3, 1, 2, 4).flatten(3)
    of_chunks = torch.exp(_segment_sums(log_decay.sum(-1).transpose(1, 2)))
    # Chunk k starts where chunk k - 1 ends, and the first one from zero.
    carry = functional.pad(of_chunks[..., :-1, :], (0, 0, 1, 0))
    starts = (carry @ by_head).view(batch, heads, chunks, -1, width)
    return starts.permute(0, 2, 3, 1, 4).flatten(3)
