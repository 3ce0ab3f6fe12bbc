"""Depthwise convolution with large kernels, made fast for training on a CPU.

oneDNN's gradient of depthwise weights is fast for kernels up to three columns wide and 20 to 40
times slower, per multiplication, for wider ones. So the gradient of the input is taken as a
convolution with the flipped kernel, and that of the weights by a form of ours, which the
environment variable ``NNMEDSEG_DEPTHWISE`` forces:

- ``numba``: a correlation of rows, compiled for the processor, which copies no map;
- ``strips``: oneDNN's gradient in strips of three columns, in float64 and where numba fails.

Elsewhere (narrow kernels, inference, other devices) the native operation is used. All like
channels_last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional, grad

from nnmedseg.ops._forms import Forms
from nnmedseg.ops._precision import at_least_float32, without_autocast
from nnmedseg.ops._simulated_device import device_type

WeightGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From ``x``, the gradient of the output and ``weight`` to that of ``weight``."""

STRIP = 3
"""Columns of the kernel whose gradient oneDNN takes fast."""


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel with its own filter, stride 1, so that the size stays.

    Args:
        x: Maps ``(B, C, H, W)``.
        weight: Filters ``(C, 1, kh, kw)``, both odd.
        bias: One value a channel ``(C,)``.

    Returns:
        Maps ``(B, C, H, W)``.
    """
    if device_type(x) == "cpu" and weight.shape[3] > STRIP:
        return _wide_on_cpu(x, weight, bias)
    return _native(x, weight, bias)


def _wide_on_cpu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In float32 (float64): oneDNN never returns from some in bfloat16, so autocast ends here."""
    dtype = at_least_float32(weight.dtype)
    given = (x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    trains = torch.is_grad_enabled() and weight.requires_grad and not torch.onnx.is_in_onnx_export()
    # On a map narrower than the kernel most of a strip would be padding.
    takes_ours = trains and weight.shape[3] <= x.shape[3]
    with without_autocast(x.device.type):
        out: Tensor = wide_depthwise_conv(*given) if takes_ours else _native(*given)
    return out.to(x.dtype)


def _native(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return functional.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])


@custom_op(
    "nnmedseg::wide_depthwise_conv",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
)
def wide_depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The native operation, with gradients of ours."""
    return _native(x, weight, bias)


@wide_depthwise_conv.register_fake
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _native(x, weight, bias)


@custom_op(
    "nnmedseg::wide_depthwise_conv_weight_gradient",
    mutates_args=(),
    schema="(Tensor grad_out, Tensor x, Tensor weight) -> Tensor",
)
def wide_depthwise_conv_weight_gradient(grad_out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of ``weight``; has none itself, so a second derivative raises."""
    return cast(Tensor, _forms.run(weight, x, grad_out, weight))


@wide_depthwise_conv_weight_gradient.register_fake
def _weight_shape(grad_out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _gradients(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
    x, weight = ctx.saved_tensors
    grad_out = grad_out.contiguous(memory_format=torch.channels_last)
    grad_x = _native(grad_out, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
    grad_bias = grad_out.sum((0, 2, 3)) if ctx.has_bias else None
    return grad_x, wide_depthwise_conv_weight_gradient(grad_out, x, weight), grad_bias


wide_depthwise_conv.register_autograd(_gradients, setup_context=_setup_context)


def gradient_in_strips(x: Tensor, grad_out: Tensor, weight: Tensor) -> Tensor:
    """The gradient of ``weight`` in strips of three columns."""
    channels, _, height, width = weight.shape
    # As wide as the strips' output; the further columns are zero and so hide what x holds there.
    grad_out, _ = _padded(grad_out, 0, width - STRIP)
    strips = [
        grad.conv2d_weight(
            shifted,
            (channels, 1, height, STRIP),
            grad_out,
            padding=(height // 2, 0),
            groups=channels,
        )
        for shifted in _shifted(x, width)
    ]
    # The last strip may overlap the one before it.
    return torch.cat([*strips[:-1], strips[-1][..., -((width - 1) % STRIP + 1) :]], dim=3)


def _shifted(x: Tensor, width: int) -> Iterator[Tensor]:
    """``x``, padded for a kernel of ``width`` columns, shifted left by a strip at a time.

    Each is ``(B, C, H, W + width - 1)``, dense in channels_last and a view of one buffer. A shift
    moves the start only, so rows wrap into the next one's columns on the right.
    """
    maps, buffer = _padded(x, width // 2, width // 2, beyond=width - STRIP)
    for first in range(0, width, STRIP):
        start = min(first, width - STRIP) * x.shape[1]
        yield buffer.as_strided(maps.shape, maps.stride(), start)


def _padded(x: Tensor, left: int, right: int, beyond: int = 0) -> tuple[Tensor, Tensor]:
    """Zero columns added to ``(B, C, H, W)`` in channels_last, and the buffer that holds the map.

    The buffer has ``beyond`` further zero pixels at its end.
    """
    batch, channels, height, columns = x.shape
    padded = left + columns + right
    values = batch * height * padded * channels
    buffer = x.new_empty(values + beyond * channels)
    buffer[values:] = 0
    rows = buffer[:values].view(batch, height, padded, channels)
    rows[:, :, :left] = 0
    rows[:, :, left : left + columns] = x.permute(0, 2, 3, 1)
    rows[:, :, left + columns :] = 0
    return rows.permute(0, 3, 1, 2), buffer


def _numbas_gradient() -> WeightGradient:
    """Import numba's form when it is first wanted."""
    from nnmedseg.ops._depthwise_numba import filter_gradient  # noqa: PLC0415 - slow to import

    return filter_gradient


def _attempt(form: WeightGradient, device_type: str) -> None:
    """Compare a form with the strips on a small example; raises where they differ."""
    x, grad_out = (torch.arange(2 * 3 * 7 * 9.0).add(k).sin().view(2, 3, 7, 9) for k in (0, 1))
    weight = torch.zeros(3, 1, 5, 7)
    expected = gradient_in_strips(x, grad_out, weight)
    torch.testing.assert_close(form(x, grad_out, weight), expected, rtol=1e-3, atol=1e-3)


_forms = Forms(
    "gradient of wide depthwise filters",
    variable="NNMEDSEG_DEPTHWISE",
    loaders={"strips": lambda: gradient_in_strips, "numba": _numbas_gradient},
    preferred={"cpu": "numba"},
    fallback="strips",
    float32_only=("numba",),
    attempt=_attempt,
)
