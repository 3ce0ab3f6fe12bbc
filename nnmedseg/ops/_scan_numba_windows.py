# ruff: noqa: N806, PLR0917 - numba inlines functions, and has no keyword-only arguments
"""Windows of 32 tokens for the scan's numba kernels: reading, writing, and what needs no state.

Step sizes, skip and gate concern tokens and channels alone, so they are taken for a whole window at
once, 16 numbers at a time, in buffers of ``(32, channels)``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nnmedseg.ops._compiled import jit
from nnmedseg.ops._simd import (
    LANES,
    add,
    divide,
    exp,
    filled,
    load,
    maximum,
    multiply,
    multiply_add,
    store,
    subtract,
)

WINDOW = 32
"""Tokens of a window, and so between two kept states."""

LOG2_E = np.float32(1 / math.log(2))
_LOG_2 = np.float32(math.log(2))
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_ARTANH = tuple(np.float32(1 / k) for k in range(13, 0, -2))
"""Coefficients of artanh(x) / x in powers of x^2, highest first: below 1/3 within 2e-8."""


class Rows(NamedTuple):
    """Tokens ``(B, L, F)``, of which number [b, t, f] is ``data[b * sample + t * token + f]``."""

    data: Any
    sample: int
    token: int


class Place(NamedTuple):
    """Where a window lies: sample, first token, number of tokens (32 or fewer), first channel."""

    sample: int
    start: int
    tokens: int
    channel: int


class Window(NamedTuple):
    """A window's numbers, each ``(32, width)`` and flat; B and C are ``(32, padded states)``.

    Attributes:
        width: Channels.
        states: States as given; further ones up to ``padded``, a multiple of 16, are zero.
        padded: States of a row.
        u, dt, z, B, C: The scan's inputs; ``dt`` with its bias.
        delta: Step sizes.
        source: ``delta u``.
        y: ``C h``, then the output.
        skip, bias: The channels' weights of the skip and biases of the steps, for every token.
    """

    width: int
    states: int
    padded: int
    u: Any
    dt: Any
    z: Any
    B: Any
    C: Any
    delta: Any
    source: Any
    y: Any
    skip: Any
    bias: Any


class WindowGradients(NamedTuple):
    """The gradients of the window's numbers.

    Attributes:
        y: Of ``C h``, before the gate.
        source: Of ``delta u``.
        exponent: Of ``delta A``, summed over the states with their rates.
        u, dt, z, B, C: Of the scan's inputs.
    """

    y: Any
    source: Any
    exponent: Any
    u: Any
    dt: Any
    z: Any
    B: Any
    C: Any
    skip: Any


@jit
def _new_buffer(width):
    """Zeros ``(32, width)``, flat, with room for the 16 numbers that `_read` may go beyond it."""
    return np.zeros(WINDOW * width + LANES, np.float32)


@jit
def _repeated(values):
    """``(D,)`` as a buffer ``(32, D)``."""
    buffer = _new_buffer(values.size)
    for t in range(WINDOW):
        buffer[t * values.size : (t + 1) * values.size] = values
    return buffer


@jit
def new_window(skip, bias, states, padded):
    """A window for as many channels as there are weights of the skip."""
    width = skip.size
    u, dt, z = _new_buffer(width), _new_buffer(width), _new_buffer(width)
    delta, source, y = _new_buffer(width), _new_buffer(width), _new_buffer(width)
    B, C = _new_buffer(padded), _new_buffer(padded)
    return Window(
        width, states, padded, u, dt, z, B, C, delta, source, y, _repeated(skip), _repeated(bias)
    )


@jit
def new_gradients(width, padded):
    """Gradients for a window, all zero."""
    y, source, exponent = _new_buffer(width), _new_buffer(width), _new_buffer(width)
    u, dt, z = _new_buffer(width), _new_buffer(width), _new_buffer(width)
    B, C = _new_buffer(padded), _new_buffer(padded)
    return WindowGradients(y, source, exponent, u, dt, z, B, C, _new_buffer(width))


@jit
def read(rows, place, first, width, padded, buffer):
    """Copy the features ``[first, first + width)`` of the tokens; the rest becomes zero."""
    count, step, dense = place.tokens, padded, width == padded
    if rows.token == width == padded:  # the tokens lie one after another: one long row
        width, step, count = count * width, count * width, 1
    for t in range(count):
        origin = place.sample * rows.sample + (place.start + t) * rows.token + first
        f = 0
        while f + LANES <= width:
            store(buffer, t * step + f, load(rows.data, origin + f))
            f += LANES
        # What follows a row in memory does no harm: the next row, or the zeros, replace it.
        if f < width and dense and origin + f + LANES <= rows.data.size:
            store(buffer, t * step + f, load(rows.data, origin + f))
            f = width
        while f < width:
            buffer[t * step + f] = rows.data[origin + f]
            f += 1
    buffer[count * step :] = _ZERO


@jit
def write(rows, place, first, width, padded, buffer):
    """Copy the other way round, without what pads the rows."""
    count, step = place.tokens, padded
    if rows.token == width == padded:
        width, step, count = count * width, count * width, 1
    for t in range(count):
        origin = place.sample * rows.sample + (place.start + t) * rows.token + first
        f = 0
        while f + LANES <= width:
            store(rows.data, origin + f, load(buffer, t * step + f))
            f += LANES
        while f < width:
            rows.data[origin + f] = buffer[t * step + f]
            f += 1


@jit
def _logistic(x):
    return divide(filled(_ONE), add(filled(_ONE), exp(multiply(x, filled(-_ONE)))))


@jit
def _softplus(x):
    """``max(x, 0) + log1p(y)`` with ``y = exp(-|x|)``, and log1p(y) as 2 artanh(y / (2 + y))."""
    magnitude = maximum(x, multiply(x, filled(-_ONE)))
    y = exp(multiply(magnitude, filled(-_ONE)))
    ratio = divide(y, add(filled(_TWO), y))
    square = multiply(ratio, ratio)
    series = filled(_ARTANH[0])
    for coefficient in _ARTANH[1:]:
        series = multiply_add(series, square, filled(coefficient))
    return multiply_add(multiply(filled(_TWO), ratio), series, maximum(x, filled(_ZERO)))


@jit
def take_steps(window, softplus):
    """Set the step sizes and the source, from ``dt``, which gets its bias, and ``u``."""
    for place in range(0, WINDOW * window.width, LANES):
        x = add(load(window.dt, place), load(window.bias, place))
        store(window.dt, place, x)
        if softplus:
            x = _softplus(x)
        store(window.delta, place, x)
        store(window.source, place, multiply(x, load(window.u, place)))


@jit
def finish(window, gated):
    """Add the skip to ``y`` and apply the gate."""
    for place in range(0, WINDOW * window.width, LANES):
        y = multiply_add(load(window.skip, place), load(window.u, place), load(window.y, place))
        if gated:
            z = load(window.z, place)
            y = multiply(y, multiply(z, _logistic(z)))
        store(window.y, place, y)


@jit
def before_gate(window, gradients):
    """Turn the gradient of the output, in ``gradients.y``, into that of ``y`` before the gate."""
    for place in range(0, WINDOW * window.width, LANES):
        z, gradient = load(window.z, place), load(gradients.y, place)
        store(gradients.z, place, gradient)  # for `of_gate`
        store(gradients.y, place, multiply(gradient, multiply(z, _logistic(z))))


@jit
def of_gate(window, gradients):
    """Set the gradient of ``z``, once ``y`` is known: silu' = s (1 + z (1 - s)), s logistic."""
    for place in range(0, WINDOW * window.width, LANES):
        y = multiply_add(load(window.skip, place), load(window.u, place), load(window.y, place))
        z = load(window.z, place)
        open_ = _logistic(z)
        rest = subtract(filled(_ONE), open_)
        slope = multiply(open_, multiply_add(z, rest, filled(_ONE)))
        store(gradients.z, place, multiply(load(gradients.z, place), multiply(y, slope)))


@jit
def of_steps(window, gradients, softplus):
    """Set the gradients of ``u``, ``dt`` and the skip."""
    for place in range(0, WINDOW * window.width, LANES):
        u, of_y = load(window.u, place), load(gradients.y, place)
        of_source = load(gradients.source, place)
        of_u = multiply(of_y, load(window.skip, place))
        store(gradients.u, place, multiply_add(load(window.delta, place), of_source, of_u))
        of_decay = multiply(load(gradients.exponent, place), filled(_LOG_2))
        step = multiply_add(u, of_source, of_decay)
        if softplus:
            step = multiply(step, _logistic(load(window.dt, place)))
        store(gradients.dt, place, step)
        store(gradients.skip, place, multiply(u, of_y))
