# ruff: noqa: N803, PLR0917 - a kernel's sizes are capitals, and everything is handed on by itself
# mypy: allow-untyped-defs
"""What the kernels in `_scan_triton_kernels` share: tiles of tokens, and the walk through them.

A tile is ``TILE`` tokens by a block of channels: ``(T, D)`` or ``(T, N)`` where it is read and
written, ``(T, N, D)`` where something is computed for each state. In this order the compiler lays
threads along channels and states, so that all tokens of a tile lie in the registers of one thread:
it walks through them alone, and sums over states take two exchanges between threads.

Tokens past the end have ``delta = 0``, which changes no state; channels and states past the end
are zero in every product.
"""

import triton
import triton.language as tl

TILE = tl.constexpr(8)
"""Tokens a tile: the gradients of eight just fit into the 255 registers that a thread can have."""

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sigmoid(x):
    """``1 / (1 + exp(-x))`` without an exponential of a positive number."""
    small = tl.exp2(tl.abs(x) * -LOG2_E)
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def softplus(x):
    """``max(x, 0) + log1p(y)``, the logarithm as ``2 atanh(s)`` by its series.

    Unlike the device's logarithm it has all digits also where the result is small.
    """
    y = tl.exp2(tl.abs(x) * -LOG2_E)
    s = y / (2.0 + y)
    square = s * s  # at most 1/9: the first term left out is 1e-9 of the whole
    series = 1.0 / 13.0 + square * (1.0 / 15.0)
    series = 1.0 / 11.0 + square * series
    series = 1.0 / 9.0 + square * series
    series = 1.0 / 7.0 + square * series
    series = 1.0 / 5.0 + square * series
    series = 1.0 / 3.0 + square * series
    return tl.maximum(x, 0.0) + 2.0 * s * (1.0 + square * series)


@triton.jit
def silu_slope(x):
    """The derivative of ``x sigmoid(x)``."""
    opening = sigmoid(x)
    return opening * (1.0 + x * (1.0 - opening))


@triton.jit
def place(chunks, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    """Batch entry, chunk (64 bits both, as offsets need them), channels and states."""
    blocks: tl.constexpr = (WIDTH + BLOCK_D - 1) // BLOCK_D
    program = tl.program_id(0)
    row = (program // blocks).to(tl.int64)
    channels = program % blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    return row // chunks, row % chunks, channels, tl.arange(0, BLOCK_N)


@triton.jit
def extent(index, length, chunk):
    """First token of a chunk (64 bits), and how many it has (32 bits)."""
    start = index * chunk
    return start, tl.minimum(chunk, length - start).to(tl.int32)


@triton.jit
def inside(first, size, columns, WIDTH: tl.constexpr):
    """Which entries of a tile exist that starts with token ``first`` of ``size``."""
    return (first + tl.arange(0, TILE) < size)[:, None] & (columns < WIDTH)[None, :]


@triton.jit
def load_tile(pointer, token_stride, first, columns, valid):
    """A tile ``(T, D)`` or ``(T, N)``, zero outside."""
    offsets = (first + tl.arange(0, TILE))[:, None] * token_stride + columns[None, :]
    return tl.load(pointer + offsets, mask=valid, other=0.0)


@triton.jit
def store_tile(pointer, token_stride, first, columns, values, valid):
    """The opposite of `load_tile`."""
    offsets = (first + tl.arange(0, TILE))[:, None] * token_stride + columns[None, :]
    tl.store(pointer + offsets, values, mask=valid)


@triton.jit
def load_channels(pointer, channels, WIDTH: tl.constexpr):
    """One number a channel; zeros where there is no tensor."""
    values = tl.zeros(channels.shape, tl.float32)
    if pointer is not None:
        values = tl.load(pointer + channels, mask=channels < WIDTH, other=0.0)
    return values


@triton.jit
def load_matrix(pointer, channels, states, WIDTH: tl.constexpr, STATES: tl.constexpr):
    """``(N, D)`` from a matrix stored as ``(D, N)``."""
    valid = (states < STATES)[:, None] & (channels < WIDTH)[None, :]
    offsets = channels[None, :] * STATES + states[:, None]
    return tl.load(pointer + offsets, mask=valid, other=0.0)


@triton.jit
def load_state(pointer, row, channels, states, WIDTH: tl.constexpr, STATES: tl.constexpr):
    """Row ``(N, D)`` of a contiguous tensor of states."""
    valid = (states < STATES)[:, None] & (channels < WIDTH)[None, :]
    offsets = states[:, None] * WIDTH + channels[None, :]
    return tl.load(pointer + row * (STATES * WIDTH) + offsets, mask=valid, other=0.0)


@triton.jit
def store_state(pointer, row, channels, states, state, WIDTH: tl.constexpr, STATES: tl.constexpr):
    """The opposite of `load_state`."""
    valid = (states < STATES)[:, None] & (channels < WIDTH)[None, :]
    offsets = states[:, None] * WIDTH + channels[None, :]
    tl.store(pointer + row * (STATES * WIDTH) + offsets, state, mask=valid)


@triton.jit
def step_sizes(raw, bias, valid, SOFTPLUS: tl.constexpr):
    """``delta`` ``(T, D)``."""
    delta = raw + bias[None, :]
    if SOFTPLUS:
        delta = softplus(delta)
    return tl.where(valid, delta, 0.0)


@triton.jit
def decays(delta, rates):
    """``exp(delta_t A)`` ``(T, N, D)``."""
    return tl.exp2(delta[:, None, :] * (rates * LOG2_E)[None, :, :])


@triton.jit
def sources(delta, value, read_in):
    """What a token adds to the states, ``delta_t u_t B_t`` ``(T, N, D)``."""
    return (delta * value)[:, None, :] * read_in[:, :, None]


@triton.jit
def walk_right(decay, source, state):
    """Follow ``state = decay_t state + source_t`` through ``(T, N, D)``.

    The one row that counts is taken from a tile by a sum in which the others are -0.0, which the
    compiler may leave out (as it may not 0.0): where a thread holds all rows, what is done to the
    others vanishes.

    Returns:
        The states before each token ``(T, N, D)``, and the one after the last ``(N, D)``.
    """
    rows = tl.arange(0, decay.shape[0])[:, None, None]
    before = source
    for t in tl.static_range(decay.shape[0]):
        before = tl.where(rows == t, state[None, :, :], before)
        after = decay * state[None, :, :] + source
        state = tl.sum(tl.where(rows == t, after, -0.0), 0)
    return before, state


@triton.jit
def walk_left(decay, source, adjoint):
    """Follow ``g_t = source_t + adjoint_{t+1}``, ``adjoint_t = decay_t g_t`` through ``(T, N, D)``.

    Returns:
        All g ``(T, N, D)``, and the adjoint before the first token ``(N, D)``.
    """
    rows = tl.arange(0, decay.shape[0])[:, None, None]
    gradients = source
    for t in tl.static_range(decay.shape[0] - 1, -1, -1):
        gradient = source + adjoint[None, :, :]
        gradients = tl.where(rows == t, gradient, gradients)
        adjoint = tl.sum(tl.where(rows == t, decay * gradient, -0.0), 0)
    return gradients, adjoint
