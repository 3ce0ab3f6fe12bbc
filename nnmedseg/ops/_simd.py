"""Vectors of 16 float32 numbers for numba kernels, with the few operations that these need.

LLVM vectorises numba's loops only when it can prove that arrays do not overlap, and then with half
of an AVX-512 register. Here a vector is a value: `load` one, compute with it, `store` it. LLVM
turns each operation into what the processor has: one instruction with AVX-512, two with AVX2, four
with NEON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 16
"""Numbers of a vector."""

_number, _vector = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
_integers = ir.VectorType(ir.IntType(32), LANES)
_NUMBER_BYTES = 4

_EXP2_COEFFICIENTS = (
    1.0,
    0.6931472028551287,
    0.24022647913770961,
    0.05550332471034972,
    0.00961843734049897,
    0.0013398874447440507,
    0.00015353366548815733,
)
"""The polynomial of degree 6 nearest to 2^x on [-1/2, 1/2] that is exact at 0: within 2e-9."""

_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -126.0, 128.0
_LOG_2 = math.log(2)
_LOG_2_HIGH = 0.693359375
"""log 2 in 9 bits, so that its product with an exponent is exact."""


class _Vector(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Float32x16")


vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    """Numba keeps a vector as LLVM's vector."""

    def __init__(self, manager: Any, numba_type: types.Type):
        super().__init__(manager, numba_type, _vector)


def _filled(value: float) -> ir.Constant:
    return ir.Constant(_vector, [value] * LANES)


def _called(builder: Any, name: str, result: Any, arguments: Sequence[Any], **options: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, **options)


def _multiplied_and_added(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _called(builder, "llvm.fmuladd.v16f32", _vector, (a, b, c))


def _address(context: Any, builder: Any, array_type: types.Array, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _vector.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """The vector from place ``index`` on of a contiguous float32 array of one dimension."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *arguments))
        value.align = _NUMBER_BYTES
        return value

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Write a vector to a contiguous float32 array of one dimension, from place ``index`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        place = _address(context, builder, signature.args[0], array, index)
        builder.store(value, place).align = _NUMBER_BYTES
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def filled(typing: Any, number: Any) -> tuple[Any, Callable[..., Any]]:
    """A vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_vector, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_integers, [0] * LANES))

    return vector(types.float32), generate


@intrinsic
def add(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """``a + b``."""
    return vector(a, b), lambda context, builder, signature, given: builder.fadd(*given)


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """``a * b``."""
    return vector(a, b), lambda context, builder, signature, given: builder.fmul(*given)


@intrinsic
def divide(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """``a / b``."""
    return vector(a, b), lambda context, builder, signature, given: builder.fdiv(*given)


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> tuple[Any, Callable[..., Any]]:
    """``a * b + c``, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _multiplied_and_added(builder, *arguments)

    return vector(a, b, c), generate


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """The larger numbers; ``b`` where one of them is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return vector(a, b), generate


@intrinsic
def total(typing: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """The sum of a vector's numbers, in the order that is quickest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = (ir.Constant(_number, -0.0), arguments[0])
        name = "llvm.vector.reduce.fadd.v16f32"
        return _called(builder, name, _number, given, fastmath=("reassoc",))

    return types.float32(a), generate


@intrinsic
def subtract(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """``a - b``."""
    return vector(a, b), lambda context, builder, signature, given: builder.fsub(*given)


def _power_of_two(builder: Any, whole: Any, rest: Any) -> Any:
    """``2 ** (whole + rest)``: ``whole`` goes to the exponent's bits, ``rest`` to a polynomial."""
    power = _filled(_EXP2_COEFFICIENTS[-1])
    for coefficient in _EXP2_COEFFICIENTS[-2::-1]:
        power = _multiplied_and_added(builder, power, rest, _filled(coefficient))
    shift = ir.Constant(_integers, [23] * LANES)
    exponent_bits = builder.shl(builder.fptosi(whole, _integers), shift)
    bits = builder.add(builder.bitcast(power, _integers), exponent_bits)
    return builder.bitcast(bits, _vector)


def _within(builder: Any, x: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Where ``x`` is too low, and ``x`` bounded; not-a-number stays."""
    too_low = builder.fcmp_ordered("<", x, low)
    bounded = builder.select(too_low, low, x)
    return too_low, builder.select(builder.fcmp_ordered(">", bounded, high), high, bounded)


def _nearest_integer(builder: Any, x: Any) -> Any:
    return _called(builder, "llvm.rint.v16f32", _vector, (x,))


@intrinsic
def exp2(typing: Any, exponent: Any) -> tuple[Any, Callable[..., Any]]:
    """``2 ** exponent`` within 1e-7 of itself; zero below 2^-126; not-a-number stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = _filled(_LOWEST_EXPONENT), _filled(_HIGHEST_EXPONENT)
        too_low, bounded = _within(builder, arguments[0], low, high)
        whole = _nearest_integer(builder, bounded)
        power = _power_of_two(builder, whole, builder.fsub(bounded, whole))
        return builder.select(too_low, _filled(0.0), power)

    return vector(exponent), generate


@intrinsic
def exp(typing: Any, x: Any) -> tuple[Any, Callable[..., Any]]:
    """``e ** x`` like `exp2`, as near for large ``x``: log 2 is taken off in two parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = (_filled(k * _LOG_2) for k in (_LOWEST_EXPONENT, _HIGHEST_EXPONENT))
        too_low, bounded = _within(builder, arguments[0], low, high)
        whole = _nearest_integer(builder, builder.fmul(bounded, _filled(1 / _LOG_2)))
        rest = bounded
        for part in (_LOG_2_HIGH, _LOG_2 - _LOG_2_HIGH):
            rest = _multiplied_and_added(builder, whole, _filled(-part), rest)
        power = _power_of_two(builder, whole, builder.fmul(rest, _filled(1 / _LOG_2)))
        return builder.select(too_low, _filled(0.0), power)

    return vector(x), generate


@intrinsic
def minimum(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """The smaller numbers; ``b`` where one of them is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return vector(a, b), generate


@intrinsic
def floor(typing: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """The largest whole numbers that are not above the numbers of ``a``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, "llvm.floor.v16f32", _vector, arguments)

    return vector(a), generate


@intrinsic
def within(typing: Any, a: Any, low: Any, high: Any) -> tuple[Any, Callable[..., Any]]:
    """One where ``low <= a <= high``, zero elsewhere and for what is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, low, high = arguments
        not_below = builder.fcmp_ordered(">=", a, low)
        inside = builder.and_(not_below, builder.fcmp_ordered("<=", a, high))
        return builder.select(inside, _filled(1.0), _filled(0.0))

    return vector(a, low, high), generate


@intrinsic
def store_places(  # noqa: PLR0917 - numba has no keyword-only arguments
    typing: Any, array: Any, index: Any, rows: Any, columns: Any, width: Any
) -> tuple[Any, Callable[..., Any]]:
    """Write ``rows * width + columns``, of whole numbers, to an int32 array like `store`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, rows, columns, width = arguments
        undefined = ir.Constant(_integers, ir.Undefined)
        first = builder.insert_element(undefined, width, ir.Constant(ir.IntType(32), 0))
        widths = builder.shuffle_vector(first, undefined, ir.Constant(_integers, [0] * LANES))
        rows, columns = (builder.fptosi(numbers, _integers) for numbers in (rows, columns))
        place = _address(context, builder, signature.args[0], array, index)
        place = builder.bitcast(place, _integers.as_pointer())
        value = builder.add(builder.mul(rows, widths), columns)
        builder.store(value, place).align = _NUMBER_BYTES
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, vector, types.int32), generate


def _interleaved(builder: Any, a: Any, b: Any, first: Sequence[int], second: Sequence[int]) -> Any:
    """The sum of two choices among the 32 numbers of a pair of vectors."""
    choices = (
        builder.shuffle_vector(a, b, ir.Constant(_integers, list(choice)))
        for choice in (first, second)
    )
    return builder.fadd(*choices)


def _in_quarters(choice: Sequence[int]) -> list[int]:
    """One choice in each quarter: 0-3 are the first vector's numbers there, 4-7 the other's."""
    return [
        place % 4 + 4 * quarter + (LANES if place >= 4 else 0)
        for quarter in range(4)
        for place in choice
    ]


def _of_quarters(choice: Sequence[int]) -> list[int]:
    """A choice of whole quarters: 0-3 are the first vector's, 4-7 the other's."""
    return [4 * quarter + place for quarter in choice for place in range(4)]


_STEPS_TO_TOTALS = (
    (_in_quarters([0, 4, 1, 5]), _in_quarters([2, 6, 3, 7])),
    (_in_quarters([0, 1, 4, 5]), _in_quarters([2, 3, 6, 7])),
    (_of_quarters([0, 4, 2, 6]), _of_quarters([1, 5, 3, 7])),
    (_of_quarters([0, 1, 4, 5]), _of_quarters([2, 3, 6, 7])),
)
"""Each halves the number of vectors: what is added of neighbours, to what."""


@intrinsic
def totals(typing: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """The sums of 16 vectors that lie one after another in an array, from place ``index`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = _address(context, builder, signature.args[0], *arguments)
        rows = []
        for row in range(LANES):
            place = builder.gep(first, [ir.Constant(ir.IntType(32), row)])
            rows.append(builder.load(place))
            rows[-1].align = _NUMBER_BYTES
        for choices in _STEPS_TO_TOTALS:
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [_interleaved(builder, *pair, *choices) for pair in pairs]
        return rows[0]

    return vector(array, types.intp), generate
