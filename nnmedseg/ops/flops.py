# ruff: noqa: N803, N806 - A, B and C are what the field calls these matrices
"""FLOPs of a network, with formulas for the operators that PyTorch's counter does not know.

As PyTorch counts: a multiply-add is two FLOPs; products, convolutions and attention count, while
exponentials, activations, normalisations and other steps that take one value at a time do not.
What an operator computes is counted by its definition, whichever way it is computed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from nnmedseg.ops import _scan_chunked, depthwise  # noqa: F401 - define operators
from nnmedseg.ops.window_mix import WINDOW

Shape = Sequence[int]
Formula = Callable[..., int]

MULTIPLY_ADD = 2
VALUES_READ = {0: 4, 1: 0, 2: 16}
"""Neighbours that a sampled value is a weighted sum of: bilinear, nearest and bicubic sampling."""

_COMPILED_FORMS = ("_scan_numba", "_scan_triton", "_deformable_numba")
"""Modules that define operators, and register their formulas, when they are imported."""


def count_flops(network: nn.Module, image_shape: Sequence[int]) -> int:
    """Count the FLOPs of one forward pass in evaluation, without gradients.

    Args:
        network: The network, best built under ``torch.device("meta")``: then nothing is computed.
            Its mode is left as it was.
        image_shape: ``(B, C, H, W)``.

    Returns:
        FLOPs for the whole batch; a multiply-add counts two.
    """
    register_formulas()
    parameter = next(network.parameters())
    image = torch.zeros(tuple(image_shape), device=parameter.device, dtype=parameter.dtype)
    trained = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(image)
    finally:
        for module in trained:
            module.training = True
    return int(counter.get_total_flops())


def register_formulas() -> None:
    """Give PyTorch's counter the formulas of this module; those that it has already stay.

    A counter knows those that are there when it is made, so compiled forms are imported here, and
    not when the network first uses them.
    """
    for module in _COMPILED_FORMS:
        with suppress(Exception):  # a form that cannot be imported is not used either
            importlib.import_module(f"nnmedseg.ops.{module}")
    _register({**_formulas(), **_torchvision_formulas()})


def register_scan_formulas(form: str) -> None:
    """Give it those of the operators ``nnmedseg::selective_scan_<form>`` and its backward one."""
    forward, backward = f"selective_scan_{form}", f"selective_scan_{form}_backward"
    ours = torch.ops.nnmedseg
    _register(
        {getattr(ours, forward): selective_scan, getattr(ours, backward): selective_scan_backward}
    )


def register_deformable_formulas(form: str) -> None:
    """Give it those of ``nnmedseg::deformable_depthwise_<form>`` and its backward one."""
    forward, backward = f"deformable_depthwise_{form}", f"deformable_depthwise_{form}_backward"
    ours = torch.ops.nnmedseg
    _register(
        {
            getattr(ours, forward): deformable_depthwise_conv,
            getattr(ours, backward): deformable_depthwise_conv_backward,
        }
    )


def _register(formulas: Mapping[Any, Formula]) -> None:
    for operator, formula in formulas.items():
        if operator not in flop_registry:
            register_flop_formula(operator)(formula)


def _formulas() -> dict[Any, Formula]:
    ours, aten = torch.ops.nnmedseg, torch.ops.aten
    return {
        ours.selective_scan_chunked: selective_scan,
        ours.selective_scan_chunked_backward: selective_scan_backward,
        ours.wide_depthwise_conv: wide_depthwise_conv,
        ours.wide_depthwise_conv_weight_gradient: wide_depthwise_conv_weight_gradient,
        ours.window_mix: window_mix,
        ours.window_mix_backward: window_mix_backward,
        aten.grid_sampler_2d: grid_sampler,
        aten.grid_sampler_2d_backward: grid_sampler_backward,
    }


def _torchvision_formulas() -> dict[Any, Formula]:
    try:
        import torchvision.ops  # noqa: F401, PLC0415 - optional; defines the operators
    except Exception:  # one built for another PyTorch raises more than ImportError
        return {}
    return {
        torch.ops.torchvision.deform_conv2d: deformable_conv,
        torch.ops.torchvision._deform_conv2d_backward: deformable_conv_backward,
    }


def selective_scan(u: Shape, delta: Shape, A: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of the scan: 6 per token, channel and state, and 1 per token and channel.

    Per state ``delta A`` (1), ``decay h + source B`` (3) and ``C h`` summed (2); per channel
    ``delta u`` (1). The skip and the gate are steps of their own that take one value at a time.
    """
    values = math.prod(u)
    return 6 * values * A[1] + values


def selective_scan_backward(*given: Any, **_: Any) -> int:
    """FLOPs of the scan's gradients: 18 per token, channel and state, 4 per token and channel.

    Per state the decay and the state again (4), the adjoint ``decay (g + C grad_y)`` (3), sums for
    B, C, ``source``, delta and A (2 each) and ``g h``, which the last two share (1). Per channel
    ``source`` again (1) and the gradients of ``source = delta u`` (3).
    """
    u, _delta, A = given[3:6]
    values = math.prod(u)
    return 18 * values * A[1] + 4 * values


def wide_depthwise_conv(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of the depthwise convolution: one multiply-add a tap and value.

    So are those of its two gradients, of which that of the map is an operator of PyTorch.
    """
    return MULTIPLY_ADD * math.prod(x) * math.prod(weight[2:])


def wide_depthwise_conv_weight_gradient(grad_out: Shape, x: Shape, weight: Shape, **_: Any) -> int:
    """FLOPs of the gradient of the filters: one multiply-add a tap and value."""
    return wide_depthwise_conv(x, weight)


def window_mix(attention: Shape, values: Shape, **_: Any) -> int:
    """FLOPs of mixing in 3x3 windows: a 9 x 9 matrix a window, so 81 multiply-adds a value."""
    return MULTIPLY_ADD * WINDOW**4 * math.prod(values)


def window_mix_backward(grad_out: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of its gradients: those of the matrices and those of the values, 81 each a value."""
    return 2 * MULTIPLY_ADD * WINDOW**4 * math.prod(grad_out)


def grid_sampler(
    x: Shape, grid: Shape, interpolation: int, *_: Any, out_shape: Shape, **__: Any
) -> int:
    """FLOPs of sampling: bilinearly 4 multiply-adds a value."""
    return MULTIPLY_ADD * VALUES_READ[interpolation] * math.prod(out_shape)


def grid_sampler_backward(grad_out: Shape, *given: Any, **_: Any) -> int:
    """FLOPs of its gradients: bilinearly 4 multiply-adds a value for the map, 8 for the grid.

    Each value read adds to the gradient of both coordinates.
    """
    _x, _grid, interpolation, _padding, _align_corners, (for_map, for_grid) = given
    multiply_adds = VALUES_READ[interpolation] * (for_map + 2 * for_grid)
    return MULTIPLY_ADD * multiply_adds * math.prod(grad_out)


def deformable_conv(x: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    """FLOPs of torchvision's operator: each tap is sampled bilinearly, then the convolution.

    4 multiply-adds per input channel, tap and output pixel, and those of the convolution.
    """
    sampled, convolved = _deformable_values(x, weight, out_shape)
    return MULTIPLY_ADD * (4 * sampled + convolved)


def deformable_conv_backward(grad_out: Shape, x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of its gradients.

    Per sampled value 4 multiply-adds to sample again, 4 for the map and 8 for the offsets; the
    convolution's twice, for its weights and for what was sampled.
    """
    sampled, convolved = _deformable_values(x, weight, grad_out)
    return MULTIPLY_ADD * (16 * sampled + 2 * convolved)


def deformable_depthwise_conv(x: Shape, offset: Shape, weight: Shape, **_: Any) -> int:
    """FLOPs of ours, which are those of torchvision's."""
    return deformable_conv(x, weight, out_shape=x)


def deformable_depthwise_conv_backward(
    grad_out: Shape, x: Shape, offset: Shape, weight: Shape, **_: Any
) -> int:
    """FLOPs of its gradients."""
    return deformable_conv_backward(grad_out, x, weight)


def _deformable_values(x: Shape, weight: Shape, out: Shape) -> tuple[int, int]:
    """The values sampled and the multiply-adds of the convolution."""
    pixels = out[0] * out[2] * out[3]
    return pixels * x[1] * weight[2] * weight[3], pixels * math.prod(weight)
