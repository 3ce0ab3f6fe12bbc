# ruff: noqa: N803, N806 - A, B, C and D are what the field calls these matrices
# ruff: noqa: PLR0917 - a kernel is given each tensor and each stride by itself
# mypy: allow-untyped-defs
"""The Triton kernels that `_scan_triton` launches, which says how they follow one another.

A program works on one chunk of one sequence, for one block of channels, tile by tile. Tensors that
callers give have a stride for the batch and one for the token; those made here are contiguous.
"""

import triton
import triton.language as tl

from nnmedseg.ops._scan_triton_tiles import (
    TILE,
    decays,
    extent,
    inside,
    load_channels,
    load_matrix,
    load_state,
    load_tile,
    place,
    sigmoid,
    silu_slope,
    sources,
    step_sizes,
    store_state,
    store_tile,
    walk_left,
    walk_right,
)

CARRY_TILE = tl.constexpr(16)
"""Chunks a tile of `carry`: it has few programs, so what counts is the number of its loads."""

SIZES = ["length", "chunk", "chunks", "batches"]  # no need to compile anew for each kind of number


@triton.jit(do_not_specialize=SIZES)
def chunk_ends(
    u, u_batch, u_token,
    dt, dt_batch, dt_token,
    B, B_batch, B_token,
    A, dt_bias, ends, totals, length, chunk, chunks,
    WIDTH: tl.constexpr, STATES: tl.constexpr, SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The state in which each chunk ends when started from zero, and its sum of delta."""
    batch, index, channels, states = place(chunks, WIDTH, BLOCK_D, BLOCK_N)
    rates = load_matrix(A, channels, states, WIDTH, STATES)
    bias = load_channels(dt_bias, channels, WIDTH)
    state = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    total = tl.zeros((TILE, BLOCK_D), tl.float32)
    start, size = extent(index, length, chunk)
    u += batch * u_batch + start * u_token
    dt += batch * dt_batch + start * dt_token
    B += batch * B_batch + start * B_token
    for first in range(0, size, TILE):
        valid = inside(first, size, channels, WIDTH)
        valid_states = inside(first, size, states, STATES)
        raw = load_tile(dt, dt_token, first, channels, valid)
        value = load_tile(u, u_token, first, channels, valid)
        read_in = load_tile(B, B_token, first, states, valid_states)
        delta = step_sizes(raw, bias, valid, SOFTPLUS)
        source = sources(delta, value, read_in)
        _, state = walk_right(decays(delta, rates), source, state)
        total += delta
    row = batch * chunks + index
    store_state(ends, row, channels, states, state, WIDTH, STATES)
    tl.store(totals + row * WIDTH + channels, tl.sum(total, 0), mask=channels < WIDTH)


@triton.jit(do_not_specialize=SIZES)
def carry(
    A, initial, ends, totals, starts, final, chunks,
    WIDTH: tl.constexpr, STATES: tl.constexpr, BACKWARDS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Turn the states in which chunks end when started from zero into those they start from.

    ``initial`` ``(B, D, N)`` starts the first chunk, none means zero; ``final`` ``(B, D, N)`` gets
    the state after the last one. Backwards it is the adjoint, from the last chunk to the first.
    """
    batch, _, channels, states = place(1, WIDTH, BLOCK_D, BLOCK_N)
    rates = load_matrix(A, channels, states, WIDTH, STATES)
    matrix = batch * (WIDTH * STATES)
    state = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    if initial is not None:
        state = load_matrix(initial + matrix, channels, states, WIDTH, STATES)
    valid = (states < STATES)[:, None] & (channels < WIDTH)[None, :]
    columns = states[:, None] * WIDTH + channels[None, :]
    for first in range(0, chunks, CARRY_TILE):
        order = first + tl.arange(0, CARRY_TILE)
        exists = order < chunks
        if BACKWARDS:
            order = chunks - 1 - order
        row = batch * chunks + order
        total = tl.load(
            totals + row[:, None] * WIDTH + channels[None, :],
            mask=exists[:, None] & (channels < WIDTH)[None, :],
            other=0.0,
        )
        offsets = row[:, None, None] * (STATES * WIDTH) + columns[None, :, :]
        valid_tile = exists[:, None, None] & valid[None, :, :]
        source = tl.load(ends + offsets, mask=valid_tile, other=0.0)
        before, state = walk_right(decays(total, rates), source, state)
        tl.store(starts + offsets, before, mask=valid_tile)
    tl.store(final + matrix + channels[None, :] * STATES + states[:, None], state, mask=valid)


@triton.jit(do_not_specialize=SIZES)
def outputs(
    u, u_batch, u_token,
    dt, dt_batch, dt_token,
    B, B_batch, B_token,
    C, C_batch, C_token,
    z, z_batch, z_token,
    A, D, dt_bias, starts, kept, out, length, chunk, chunks,
    WIDTH: tl.constexpr, STATES: tl.constexpr, SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gated output of each chunk, and the state before each of its tiles."""
    batch, index, channels, states = place(chunks, WIDTH, BLOCK_D, BLOCK_N)
    rates = load_matrix(A, channels, states, WIDTH, STATES)
    bias = load_channels(dt_bias, channels, WIDTH)
    skip = load_channels(D, channels, WIDTH)
    state = load_state(starts, batch * chunks + index, channels, states, WIDTH, STATES)
    start, size = extent(index, length, chunk)
    u += batch * u_batch + start * u_token
    dt += batch * dt_batch + start * dt_token
    B += batch * B_batch + start * B_token
    C += batch * C_batch + start * C_token
    if z is not None:
        z += batch * z_batch + start * z_token
    out += (batch * length + start) * WIDTH
    tile = batch * tl.cdiv(length, TILE) + start // TILE
    for first in range(0, size, TILE):
        valid = inside(first, size, channels, WIDTH)
        valid_states = inside(first, size, states, STATES)
        raw = load_tile(dt, dt_token, first, channels, valid)
        value = load_tile(u, u_token, first, channels, valid)
        read_in = load_tile(B, B_token, first, states, valid_states)
        read_out = load_tile(C, C_token, first, states, valid_states)
        if z is not None:
            gate = load_tile(z, z_token, first, channels, valid)
        store_state(kept, tile + first // TILE, channels, states, state, WIDTH, STATES)
        delta = step_sizes(raw, bias, valid, SOFTPLUS)
        decay = decays(delta, rates)
        source = sources(delta, value, read_in)
        before, state = walk_right(decay, source, state)
        y = tl.sum((decay * before + source) * read_out[:, :, None], 1) + skip[None, :] * value
        if z is not None:
            y *= gate * sigmoid(gate)
        store_tile(out, WIDTH, first, channels, y, valid)


@triton.jit(do_not_specialize=SIZES)
def chunk_adjoints(
    grad_out, grad_out_batch, grad_out_token,
    dt, dt_batch, dt_token,
    C, C_batch, C_token,
    z, z_batch, z_token,
    A, dt_bias, ends, totals, length, chunk, chunks,
    WIDTH: tl.constexpr, STATES: tl.constexpr, SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The adjoint before each chunk when it is zero after it, and the chunk's sum of delta."""
    batch, index, channels, states = place(chunks, WIDTH, BLOCK_D, BLOCK_N)
    rates = load_matrix(A, channels, states, WIDTH, STATES)
    bias = load_channels(dt_bias, channels, WIDTH)
    adjoint = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    total = tl.zeros((TILE, BLOCK_D), tl.float32)
    start, size = extent(index, length, chunk)
    grad_out += batch * grad_out_batch + start * grad_out_token
    dt += batch * dt_batch + start * dt_token
    C += batch * C_batch + start * C_token
    if z is not None:
        z += batch * z_batch + start * z_token
    for step in range(tl.cdiv(size, TILE)):
        first = (tl.cdiv(size, TILE) - 1 - step) * TILE
        valid = inside(first, size, channels, WIDTH)
        valid_states = inside(first, size, states, STATES)
        raw = load_tile(dt, dt_token, first, channels, valid)
        grad_y = load_tile(grad_out, grad_out_token, first, channels, valid)
        read_out = load_tile(C, C_token, first, states, valid_states)
        if z is not None:
            gate = load_tile(z, z_token, first, channels, valid)
            grad_y *= gate * sigmoid(gate)
        delta = step_sizes(raw, bias, valid, SOFTPLUS)
        source = grad_y[:, None, :] * read_out[:, :, None]
        _, adjoint = walk_left(decays(delta, rates), source, adjoint)
        total += delta
    row = batch * chunks + index
    store_state(ends, row, channels, states, adjoint, WIDTH, STATES)
    tl.store(totals + row * WIDTH + channels, tl.sum(total, 0), mask=channels < WIDTH)


@triton.jit
def _through_states(grad_after, decay, remaining, delta, value, read_in, rates, adjoint):
    """From the gradient that the states get from the output alone to those of B, u, delta and A.

    Also the adjoint before the tile. The order frees registers early.
    """
    grad, adjoint = walk_left(decay, grad_after, adjoint)
    grad_read_in = tl.sum(grad * (delta * value)[:, None, :], 2)
    grad_driven = tl.sum(grad * read_in[:, :, None], 1)
    grad_exponent = grad * remaining
    grad_delta = value * grad_driven + tl.sum(grad_exponent * rates[None, :, :], 1)
    grad_rates = tl.sum(grad_exponent * delta[:, None, :], 0)
    return grad_read_in, delta * grad_driven, grad_delta, grad_rates, adjoint


@triton.jit(do_not_specialize=SIZES)
def gradients(  # noqa: PLR0915 - one pass, as all of it is needed at once
    grad_out, grad_out_batch, grad_out_token,
    u, u_batch, u_token,
    dt, dt_batch, dt_token,
    B, B_batch, B_token,
    C, C_batch, C_token,
    z, z_batch, z_token,
    A, D, dt_bias, adjoints, kept,
    grad_u, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_z, grad_dt_bias,
    batches, length, chunk, chunks,
    WIDTH: tl.constexpr, STATES: tl.constexpr, SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradients of each chunk's tokens, and its share of those that all tokens have in common.

    Those of B and C are sums over this program's channels, for each block of channels apart.
    """
    batch, index, channels, states = place(chunks, WIDTH, BLOCK_D, BLOCK_N)
    rates = load_matrix(A, channels, states, WIDTH, STATES)
    bias = load_channels(dt_bias, channels, WIDTH)
    skip = load_channels(D, channels, WIDTH)
    row = batch * chunks + index
    adjoint = load_state(adjoints, row, channels, states, WIDTH, STATES)
    sum_rates = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    sum_skip = tl.zeros((TILE, BLOCK_D), tl.float32)
    sum_bias = tl.zeros((TILE, BLOCK_D), tl.float32)
    start, size = extent(index, length, chunk)
    grad_out += batch * grad_out_batch + start * grad_out_token
    u += batch * u_batch + start * u_token
    dt += batch * dt_batch + start * dt_token
    B += batch * B_batch + start * B_token
    C += batch * C_batch + start * C_token
    if z is not None:
        z += batch * z_batch + start * z_token
    here = (batch * length + start) * WIDTH
    block = tl.program_id(0) % ((WIDTH + BLOCK_D - 1) // BLOCK_D)
    there = ((block * batches + batch) * length + start) * STATES
    tile = batch * tl.cdiv(length, TILE) + start // TILE
    for step in range(tl.cdiv(size, TILE)):
        first = (tl.cdiv(size, TILE) - 1 - step) * TILE
        valid = inside(first, size, channels, WIDTH)
        valid_states = inside(first, size, states, STATES)
        raw = load_tile(dt, dt_token, first, channels, valid)
        value = load_tile(u, u_token, first, channels, valid)
        read_in = load_tile(B, B_token, first, states, valid_states)
        read_out = load_tile(C, C_token, first, states, valid_states)
        grad_y = load_tile(grad_out, grad_out_token, first, channels, valid)
        if z is not None:
            gate = load_tile(z, z_token, first, channels, valid)
        state = load_state(kept, tile + first // TILE, channels, states, WIDTH, STATES)
        delta = step_sizes(raw, bias, valid, SOFTPLUS)
        decay = decays(delta, rates)
        source = sources(delta, value, read_in)
        before, _ = walk_right(decay, source, state)
        remaining = decay * before
        after = remaining + source
        if z is not None:
            y = tl.sum(after * read_out[:, :, None], 1) + skip[None, :] * value
            store_tile(grad_z + here, WIDTH, first, channels, grad_y * y * silu_slope(gate), valid)
            grad_y *= gate * sigmoid(gate)
        grad_read_out = tl.sum(after * grad_y[:, None, :], 2)
        store_tile(grad_C + there, STATES, first, states, grad_read_out, valid_states)
        grad_read_in, grad_value, grad_raw, grad_rates, adjoint = _through_states(
            grad_y[:, None, :] * read_out[:, :, None],
            decay, remaining, delta, value, read_in, rates, adjoint,
        )  # fmt: skip
        store_tile(grad_B + there, STATES, first, states, grad_read_in, valid_states)
        grad_value += skip[None, :] * grad_y
        store_tile(grad_u + here, WIDTH, first, channels, grad_value, valid)
        if SOFTPLUS:
            grad_raw *= sigmoid(raw + bias[None, :])
        store_tile(grad_dt + here, WIDTH, first, channels, grad_raw, valid)
        sum_rates += grad_rates
        sum_skip += grad_y * value
        sum_bias += tl.where(valid, grad_raw, 0.0)
    store_state(grad_A, row, channels, states, sum_rates, WIDTH, STATES)
    if D is not None:
        tl.store(grad_D + row * WIDTH + channels, tl.sum(sum_skip, 0), mask=channels < WIDTH)
    if dt_bias is not None:
        tl.store(grad_dt_bias + row * WIDTH + channels, tl.sum(sum_bias, 0), mask=channels < WIDTH)
