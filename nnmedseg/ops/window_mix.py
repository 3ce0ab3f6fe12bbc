"""Attention inside overlapping 3x3 windows, whose results are spread over the windows and summed.

Window p has a 9 x 9 matrix; it mixes the nine values around p into nine results, of which each
belongs to one position of the window; a pixel's output is the sum of its results from the nine
windows that hold it. Collecting the 9 x 9 entries by the distance between the pixel that is read
and the one that is written gives one 5 x 5 kernel a pixel. So a pixel reads 25 values instead of
9 x 9, and neither windows nor their results are ever stored. The same numbers up to rounding. On
one thread, at 128 x 128 pixels, 128 channels and 4 heads, it takes 23 ms forward and 70 ms
backward, where unfold, products and fold take 255 and 295 ms, and keeps a third of their memory for
the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional

from nnmedseg.ops._precision import at_least_float32

WINDOW = 3
REACH = 2 * WINDOW - 1
"""Side of the square of pixels that one pixel's output depends on."""


def mix_windows(attention: Tensor, values: Tensor) -> Tensor:
    """Mix values inside every 3x3 window and sum the overlapping results.

    Windows lie around all pixels of the image; values outside are zero, and results that fall
    outside are dropped. The sum is not divided by the number of windows.

    Args:
        attention: Matrices ``(B, heads, 9, 9, H, W)``: the position written, then the one read.
        values: Maps ``(B, C, H, W)``; head h has the h-th of ``heads`` equal parts of the channels.

    Returns:
        Maps ``(B, C, H, W)`` in float32, or in float64 if ``values`` are.
    """
    dtype = at_least_float32(values.dtype)
    attention, values = attention.to(dtype), values.to(dtype)
    if torch.onnx.is_in_onnx_export():  # ONNX does not know our operator
        padded = _padded(values, attention.shape[1])
        return _apply(_kernels(attention), padded).view(values.shape)
    mixed, _, _ = window_mix(attention, values)
    return cast(Tensor, mixed)


@custom_op(
    "nnmedseg::window_mix",
    mutates_args=(),
    schema="(Tensor attention, Tensor values) -> (Tensor, Tensor, Tensor)",
)
def window_mix(attention: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mixed maps, and the kernels and padded values that the backward pass needs."""
    kernels = _kernels(attention)
    padded = _padded(values, attention.shape[1])
    return _apply(kernels, padded).view(values.shape), kernels, padded


@window_mix.register_fake
def _shapes(attention: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, _, _, height, width = attention.shape
    kernels = attention.new_empty(batch, heads, REACH, REACH, height, width)
    return values.new_empty(values.shape), kernels, _padded(values, heads)


@custom_op(
    "nnmedseg::window_mix_backward",
    mutates_args=(),
    schema="(Tensor grad_out, Tensor kernels, Tensor padded) -> (Tensor, Tensor)",
)
def window_mix_backward(grad_out: Tensor, kernels: Tensor, padded: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``attention`` and of the padded values.

    They have none themselves, so a second derivative raises.
    """
    grad_out = grad_out.reshape(*padded.shape[:3], *kernels.shape[4:])
    grad_padded = _gradient_of_padded(kernels, grad_out)
    return _gradient_of_attention(_gradient_of_kernels(grad_out, padded)), grad_padded


@window_mix_backward.register_fake
def _gradient_shapes(grad_out: Tensor, kernels: Tensor, padded: Tensor) -> tuple[Tensor, Tensor]:
    batch, heads, _, _, height, width = kernels.shape
    attention = kernels.new_empty(batch, heads, WINDOW**2, WINDOW**2, height, width)
    return attention, padded.new_empty(padded.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    _, kernels, padded = output
    ctx.mark_non_differentiable(kernels, padded)
    ctx.set_materialize_grads(False)  # those of the kernels and the padded values would be zeros
    ctx.save_for_backward(kernels, padded)


def _gradients(ctx: Any, grad_out: Tensor, *_: None) -> tuple[Tensor, Tensor]:
    grad_attention, grad_padded = window_mix_backward(grad_out, *ctx.saved_tensors)
    border = REACH // 2
    return grad_attention, grad_padded[..., border:-border, border:-border].flatten(1, 2)


window_mix.register_autograd(_gradients, setup_context=_setup_context)


def _padded(values: Tensor, heads: int) -> Tensor:
    """``(B, C, H, W)`` to ``(B, heads, C / heads, H + 4, W + 4)``."""
    border = REACH // 2
    return functional.pad(values, (border,) * 4).unflatten(1, (heads, -1))


def _apply(kernels: Tensor, padded: Tensor) -> Tensor:
    """The sum over a pixel's 5 x 5 surroundings; ``(B, heads, C / heads, H, W)``."""
    batch, heads, channels = padded.shape[:3]
    out = padded.new_zeros(batch, heads, channels, *kernels.shape[4:])
    for kernel, surrounding in _taps(kernels, padded):
        out.addcmul_(kernel, surrounding)
    return out


def _gradient_of_padded(kernels: Tensor, grad_out: Tensor) -> Tensor:
    batch, heads, channels, height, width = grad_out.shape
    size = (height + REACH - 1, width + REACH - 1)
    gradient = grad_out.new_zeros(batch, heads, channels, *size)
    for kernel, surrounding in _taps(kernels, gradient):
        surrounding.addcmul_(kernel, grad_out)
    return gradient


def _gradient_of_kernels(grad_out: Tensor, padded: Tensor) -> Tensor:
    batch, heads, _, height, width = grad_out.shape
    gradient = grad_out.new_empty(batch, heads, REACH, REACH, height, width)
    product = torch.empty_like(grad_out)
    for kernel, surrounding in _taps(gradient, padded):
        torch.mul(grad_out, surrounding, out=product)
        torch.sum(product, 2, keepdim=True, out=kernel)
    return gradient


def _taps(kernels: Tensor, padded: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the kernels' entries ``(B, heads, 1, H, W)`` and of the values that they weigh."""
    height, width = kernels.shape[4:]
    for dy in range(REACH):
        for dx in range(REACH):
            kernel = kernels[:, :, dy, dx].unsqueeze(2)
            yield kernel, padded[..., dy : dy + height, dx : dx + width]


def _kernels(attention: Tensor) -> Tensor:
    """Collect ``(B, heads, 9, 9, H, W)`` by distance, into ``(B, heads, 5, 5, H, W)``."""
    batch, heads, _, _, height, width = attention.shape
    kernels = attention.new_zeros(batch, heads, REACH, REACH, height, width)
    for matrix, kernel in _contributions(attention, kernels):
        kernel.add_(matrix)
    return kernels


def _gradient_of_attention(gradient: Tensor) -> Tensor:
    batch, heads, _, _, height, width = gradient.shape
    positions = WINDOW**2
    attention = gradient.new_zeros(batch, heads, positions, positions, height, width)
    for matrix, kernel in _contributions(attention, gradient):
        matrix.copy_(kernel)
    return attention


def _contributions(attention: Tensor, kernels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each position written: views of the windows' rows, and of the entries they add to.

    The window that writes its position (y, x) to pixel q lies around q - (y, x), both in
    (-1, 0, 1); what it reads lies a block of 3 x 3 distances around -(y, x) from q.
    """
    height, width = kernels.shape[4:]
    rows = attention.unflatten(3, (WINDOW, WINDOW)).unflatten(2, (WINDOW, WINDOW))
    for y in range(WINDOW):
        for x in range(WINDOW):
            window_rows, pixel_rows = _overlap(height, y - 1)
            window_columns, pixel_columns = _overlap(width, x - 1)
            block_y, block_x = WINDOW - 1 - y, WINDOW - 1 - x
            block = kernels[:, :, block_y : block_y + WINDOW, block_x : block_x + WINDOW]
            yield (
                rows[:, :, y, x, :, :, window_rows, window_columns],
                block[..., pixel_rows, pixel_columns],
            )


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where p and p + ``shift`` are both inside: the slice of p, and that of p + ``shift``."""
    before, after = max(-shift, 0), max(shift, 0)
    return slice(before, size - after), slice(after, size - before)
