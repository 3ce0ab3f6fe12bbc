# ruff: noqa: PLR0917 - numba has no keyword-only arguments
"""The gradient of depthwise filters as a numba kernel; `_depthwise_numba` calls it.

It goes through the map row by row, 16 channels at a time. A row of the input is copied between
zeros once; then, for each row of the filters, it is correlated with the row of the output's
gradient to which it contributed: all taps of that row of the filters are sums in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nnmedseg.ops import _simd
from nnmedseg.ops._compiled import jit
from nnmedseg.ops._simd import LANES, add, load, store


class Sizes(NamedTuple):
    """Height, width and channels (a multiple of 16) of the maps; height, width of the filters."""

    height: int
    width: int
    channels: int
    rows: int
    columns: int


class Part(NamedTuple):
    """The rows of a sample's map that a task reads, up to but without the end, and its number."""

    sample: int
    first_row: int
    end_row: int
    number: int


@intrinsic
def _correlate(
    typing: Any, sums: Any, x: Any, weights: Any, start: Any, step: Any, count: Any, taps: Any
) -> tuple[Any, Callable[..., Any]]:
    """For each tap t, store ``sum over p < count of x[p + t] weights[p]`` as vector t of ``sums``.

    The vectors ``x[p]`` lie one after another, the ``weights[p]`` are ``step`` numbers apart, from
    ``start`` on. There are as many taps as the tuple ``taps`` is long, which the compiler knows.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_types, (sums, x, weights, start, step, count, _) = signature.args, arguments
        index = ir.IntType(64)

        def place(position: int, array: Any, number: Any) -> Any:
            return _simd._address(context, builder, array_types[position], array, number)

        def loaded(address: Any) -> Any:
            value = builder.load(address)
            value.align = _simd._NUMBER_BYTES
            return value

        zero = _simd._filled(0.0)
        totals = [cgutils.alloca_once(builder, zero.type) for _ in range(taps.count)]
        for total in totals:
            builder.store(zero, total)
        with cgutils.for_range(builder, count) as loop:
            weight = loaded(place(2, weights, builder.add(start, builder.mul(loop.index, step))))
            for tap, total in enumerate(totals):
                number = builder.mul(
                    builder.add(loop.index, ir.Constant(index, tap)), ir.Constant(index, LANES)
                )
                value = loaded(place(1, x, number))
                sum_ = _simd._multiplied_and_added(builder, value, weight, builder.load(total))
                builder.store(sum_, total)
        for tap, total in enumerate(totals):
            address = place(0, sums, ir.Constant(index, tap * LANES))
            builder.store(builder.load(total), address).align = _simd._NUMBER_BYTES
        return context.get_dummy_value()

    whole = types.intp
    return types.void(sums, x, weights, whole, whole, whole, taps), generate


@jit
def filter_gradient(part, sizes, x, grad_out, row, sums, gradient, taps):
    """Add what some rows of the input contribute to the gradient of the filters.

    Args:
        part: Which rows.
        sizes: See `Sizes`.
        x: The input ``(B, H, W, C)``; flat.
        grad_out: The gradient of the output, likewise.
        row: Room for a row of the input between zeros ``(W + columns - 1, 16)``; flat.
        sums: Room for ``(columns, 16)``; flat.
        gradient: That of each part ``(parts, rows, columns, C)``, zero at the start; flat.
        taps: A tuple with an entry for each column of the filters.
    """
    reach, side = sizes.rows // 2, sizes.columns // 2
    row[:] = 0
    for first in range(0, sizes.channels, LANES):
        for y in range(part.first_row, part.end_row):
            origin = (part.sample * sizes.height + y) * sizes.width * sizes.channels + first
            for p in range(sizes.width):
                store(row, (side + p) * LANES, load(x, origin + p * sizes.channels))
            for i in range(sizes.rows):
                written = y - i + reach
                if 0 <= written < sizes.height:
                    start = origin + (written - y) * sizes.width * sizes.channels
                    _correlate(sums, row, grad_out, start, sizes.channels, sizes.width, taps)
                    filters = (part.number * sizes.rows + i) * sizes.columns
                    for t in range(sizes.columns):
                        place = (filters + t) * sizes.channels + first
                        store(gradient, place, add(load(gradient, place), load(sums, t * LANES)))
