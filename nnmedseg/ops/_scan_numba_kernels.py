# ruff: noqa: N806, PLR0917 - numba inlines functions, and has no keyword-only arguments
"""The selective scan and its gradients as numba kernels; `_scan_numba` calls them.

A kernel walks through the samples and channels of its `Part`, in windows of 32 tokens. Within a
window one channel goes after another, its states, rates and sums in registers, 16 states at a time.
The forward kernel keeps the states that windows start from. The backward kernel takes the windows
from the last to the first and recomputes the states of one channel in one window at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnmedseg.ops._compiled import jit
from nnmedseg.ops._scan_numba_windows import (
    WINDOW,
    Place,
    before_gate,
    finish,
    new_gradients,
    new_window,
    of_gate,
    of_steps,
    read,
    take_steps,
    write,
)
from nnmedseg.ops._simd import LANES, exp2, filled, load, multiply, multiply_add, store, total

_ZERO = np.float32(0)


class Sizes(NamedTuple):
    """Tokens of the sequence, channels, states as given, and padded to a multiple of 16."""

    length: int
    channels: int
    states: int
    padded: int


class Part(NamedTuple):
    """The samples and channels of one task, from the first up to, but without, the end."""

    first_sample: int
    end_sample: int
    first_channel: int
    end_channel: int


class Given(NamedTuple):
    """What is scanned.

    Attributes:
        u, dt, B, C, z: Tokens, as `Rows`; ``z`` is not read without a gate.
        rates: ``log2(e) A`` ``(D, N)``, the states padded with zeros; flat.
        skip, bias: ``(D,)``, zero for none.
        softplus: Whether the step sizes go through a softplus.
        gated: Whether there is a gate.
    """

    u: Any
    dt: Any
    B: Any
    C: Any
    z: Any
    rates: Any
    skip: Any
    bias: Any
    softplus: bool
    gated: bool


class GivenGradients(NamedTuple):
    """Where the gradients go.

    Attributes:
        u, dt, B, C, z: Tokens, as `Rows`; those of B and C are sums over the part's channels.
        rates: ``(B, D, N)`` in float64, the states padded; flat.
        skip, bias: ``(B, D)`` in float64; flat.
    """

    u: Any
    dt: Any
    B: Any
    C: Any
    z: Any
    rates: Any
    skip: Any
    bias: Any


@jit
def _new_window(part, sizes, given):
    skip = given.skip[part.first_channel : part.end_channel]
    bias = given.bias[part.first_channel : part.end_channel]
    return new_window(skip, bias, sizes.states, sizes.padded)


@jit
def _rates(part, sizes, given):
    return given.rates[part.first_channel * sizes.padded : part.end_channel * sizes.padded]


@jit
def _read_window(given, place, window):
    width, padded = window.width, window.padded
    read(given.u, place, place.channel, width, width, window.u)
    read(given.dt, place, place.channel, width, width, window.dt)
    read(given.B, place, 0, window.states, padded, window.B)
    read(given.C, place, 0, window.states, padded, window.C)
    if given.gated:
        read(given.z, place, place.channel, width, width, window.z)
    take_steps(window, given.softplus)


@jit
def _scan_window(window, tokens, rates, states):
    """Take the window's tokens, channel by channel; ``states`` move on, ``y`` becomes ``C h``."""
    delta, source, B, C, y = window.delta, window.source, window.B, window.C, window.y
    y[:] = _ZERO
    for channel in range(window.width):
        for first in range(0, window.padded, LANES):
            h = load(states, channel * window.padded + first)
            rate = load(rates, channel * window.padded + first)
            for t in range(tokens):
                place, row = t * window.width + channel, t * window.padded + first
                decay = exp2(multiply(filled(delta[place]), rate))
                h = multiply_add(decay, h, multiply(filled(source[place]), load(B, row)))
                y[place] += total(multiply(h, load(C, row)))
            store(states, channel * window.padded + first, h)


@jit
def forward(part, sizes, given, out, last, kept):
    """Scan a part of the samples and channels.

    Args:
        part: Which samples and channels.
        sizes: See `Sizes`.
        given: See `Given`.
        out: Filled with the output; `Rows`.
        last: Filled with the last states ``(B, D, N)``; flat.
        kept: Filled with the states that windows start from ``(B, windows, D, padded N)``; flat.
    """
    window, rates = _new_window(part, sizes, given), _rates(part, sizes, given)
    windows, channel = -(-sizes.length // WINDOW), part.first_channel
    states = np.empty(rates.size, np.float32)
    for sample in range(part.first_sample, part.end_sample):
        states[:] = _ZERO
        for index in range(windows):
            start = index * WINDOW
            place = Place(sample, start, min(WINDOW, sizes.length - start), channel)
            origin = ((sample * windows + index) * sizes.channels + channel) * sizes.padded
            kept[origin : origin + states.size] = states
            _read_window(given, place, window)
            _scan_window(window, place.tokens, rates, states)
            finish(window, given.gated)
            write(out, place, channel, window.width, window.width, window.y)
        for row in range(window.width):
            origin = (sample * sizes.channels + channel + row) * sizes.states
            for state in range(sizes.states):
                last[origin + state] = states[row * sizes.padded + state]


@jit
def _recompute(window, channel, first, tokens, rate, h, states, decays):
    """The decay of each of a window's tokens, the states before them and after the last one."""
    store(states, 0, h)
    for t in range(tokens):
        place = t * window.width + channel
        decay = exp2(multiply(filled(window.delta[place]), rate))
        row = load(window.B, t * window.padded + first)
        h = multiply_add(decay, h, multiply(filled(window.source[place]), row))
        store(decays, t * LANES, decay)
        store(states, (t + 1) * LANES, h)


@jit
def _walk_back(window, gradients, channel, first, tokens, rate, adjoint, states, decays, rate_sum):
    """Add 16 states' part of the window's gradients; returns the adjoint at its start."""
    sums = filled(_ZERO)
    for t in range(tokens - 1, -1, -1):
        place, row = t * window.width + channel, t * window.padded + first
        incoming, h = filled(gradients.y[place]), load(states, (t + 1) * LANES)
        c = load(window.C, row)
        window.y[place] += total(multiply(c, h))
        store(gradients.C, row, multiply_add(incoming, h, load(gradients.C, row)))
        adjoint = multiply_add(incoming, c, adjoint)
        gradients.source[place] += total(multiply(adjoint, load(window.B, row)))
        source = filled(window.source[place])
        store(gradients.B, row, multiply_add(source, adjoint, load(gradients.B, row)))
        adjoint = multiply(adjoint, load(decays, t * LANES))
        of_exponent = multiply(adjoint, load(states, t * LANES))
        sums = multiply_add(of_exponent, filled(window.delta[place]), sums)
        gradients.exponent[place] += total(multiply(of_exponent, rate))
    store(rate_sum, 0, sums)
    return adjoint


@jit
def _walk_window_back(window, gradients, tokens, rates, starts, adjoints, rate_sums):
    """Add the window's gradients, channel by channel; ``adjoints`` move on to its start."""
    states = np.empty((WINDOW + 1) * LANES, np.float32)
    decays, rate_sum = np.empty(WINDOW * LANES, np.float32), np.empty(LANES, np.float32)
    for buffer in (window.y, gradients.source, gradients.exponent, gradients.B, gradients.C):
        buffer[:] = _ZERO
    for channel in range(window.width):
        for first in range(0, window.padded, LANES):
            place = channel * window.padded + first
            rate = load(rates, place)
            start, adjoint = load(starts, place), load(adjoints, place)
            _recompute(window, channel, first, tokens, rate, start, states, decays)
            adjoint = _walk_back(
                window, gradients, channel, first, tokens, rate, adjoint, states, decays, rate_sum
            )
            store(adjoints, place, adjoint)
            for state in range(LANES):
                rate_sums[place + state] += rate_sum[state]


@jit
def _write_gradients(into, place, window, gradients, gated):
    width, channel = window.width, place.channel
    write(into.u, place, channel, width, width, gradients.u)
    write(into.dt, place, channel, width, width, gradients.dt)
    write(into.B, place, 0, window.states, window.padded, gradients.B)
    write(into.C, place, 0, window.states, window.padded, gradients.C)
    if gated:
        write(into.z, place, channel, width, width, gradients.z)


@jit
def _sum_over_tokens(buffer, width, totals):
    """Add the rows of a buffer ``(32, width)``."""
    for t in range(WINDOW):
        for channel in range(width):
            totals[channel] += buffer[t * width + channel]


@jit
def backward(part, sizes, given, grad_out, grad_last, kept, into):
    """Fill the gradients of a part of the samples and channels.

    Args:
        part: Which samples and channels.
        sizes: See `Sizes`.
        given: See `Given`.
        grad_out: Gradient of the output; `Rows`.
        grad_last: Gradient of the last states ``(B, D, N)``; flat.
        kept: As `forward` filled it.
        into: Where the gradients go; the sums of rates, skip and bias must be zero.
    """
    window, rates = _new_window(part, sizes, given), _rates(part, sizes, given)
    windows, channel, width = -(-sizes.length // WINDOW), part.first_channel, window.width
    gradients, adjoints = new_gradients(width, sizes.padded), np.zeros(rates.size, np.float32)
    for sample in range(part.first_sample, part.end_sample):
        first = sample * sizes.channels + channel
        rate_sums = into.rates[first * sizes.padded : (first + width) * sizes.padded]
        for row in range(width):
            for state in range(sizes.states):
                origin = (first + row) * sizes.states
                adjoints[row * sizes.padded + state] = grad_last[origin + state]
        for index in range(windows - 1, -1, -1):
            start = index * WINDOW
            place = Place(sample, start, min(WINDOW, sizes.length - start), channel)
            origin = ((sample * windows + index) * sizes.channels + channel) * sizes.padded
            _read_window(given, place, window)
            read(grad_out, place, channel, width, width, gradients.y)
            if given.gated:
                before_gate(window, gradients)
            starts = kept[origin : origin + rates.size]
            _walk_window_back(window, gradients, place.tokens, rates, starts, adjoints, rate_sums)
            if given.gated:
                of_gate(window, gradients)
            of_steps(window, gradients, given.softplus)
            _sum_over_tokens(gradients.skip, width, into.skip[first : first + width])
            _sum_over_tokens(gradients.dt, width, into.bias[first : first + width])
            _write_gradients(into, place, window, gradients, given.gated)
