# ruff: noqa: N803, N806 - A, B, C and D are what the field calls these matrices
"""The operator of a scan whose kernels include the softplus, the skip and the gate.

`define_scan` makes one of a forward and a backward function (numba's, Triton's). What it saves for
the backward pass are its inputs and the states that the forward function keeps. To PyTorch's
compiler and FLOP counter either pass is one operation; on tensors without values it gives the
shapes alone, of what is kept too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.library import custom_op

from nnmedseg.ops._scan_inputs import ScanForm, ScanInputs
from nnmedseg.ops.flops import register_scan_formulas

Gradients = tuple[Tensor | None, ...]
Forward = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""``(u, dt, A, B, C, D, z, dt_bias, dt_softplus)`` to output, last state and kept states."""
Backward = Callable[..., Gradients]
"""``(grad_out, grad_last, kept)`` and the same to the gradients of the eight tensors."""
KeptShape = Callable[[Sequence[int], int], tuple[int, ...]]
"""The shape of ``u`` and the number of states to the shape of the kept states."""

_INPUTS = (
    "Tensor u, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias,"
    " bool dt_softplus"
)
_TENSORS = 8


def define_scan(name: str, forward: Forward, backward: Backward, kept_shape: KeptShape) -> ScanForm:
    """Register ``nnmedseg::selective_scan_<name>`` and its backward operator.

    The functions get float32 tensors, of which rows of the last dimension may lie apart.

    Args:
        name: Of the form.
        forward: See `Forward`.
        backward: See `Backward`.
        kept_shape: See `KeptShape`.

    Returns:
        The form that calls the operator.
    """
    operator = custom_op(
        f"nnmedseg::selective_scan_{name}",
        forward,
        mutates_args=(),
        schema=f"({_INPUTS}) -> (Tensor, Tensor, Tensor)",
    )

    def present(*given: Any) -> tuple[Tensor, ...]:
        *gradients, given_u = *backward(*given), given[3]
        return tuple(given_u.new_empty(0) if x is None else x for x in gradients)

    backward_operator = custom_op(
        f"nnmedseg::selective_scan_{name}_backward",
        present,
        mutates_args=(),
        schema=f"(Tensor grad_out, Tensor grad_last, Tensor kept, {_INPUTS}) -> "
        f"({', '.join(['Tensor'] * _TENSORS)})",
    )

    def shapes(u: Tensor, dt: Tensor, A: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        last = u.new_empty((u.shape[0], *A.shape))
        return u.new_empty(u.shape), last, u.new_empty(kept_shape(u.shape, A.shape[1]))

    def gradients(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None, _: None) -> Any:
        *tensors, kept = ctx.saved_tensors
        u, _dt, A = tensors[:3]
        if grad_out is None:
            grad_out = torch.zeros_like(u)
        if grad_last is None:
            grad_last = u.new_zeros((u.shape[0], *A.shape))
        found = backward_operator(grad_out, grad_last, kept, *tensors, ctx.dt_softplus)
        return *(None if x is None else y for x, y in zip(tensors, found, strict=True)), None

    register_scan_formulas(name)
    operator.register_fake(shapes)
    operator.register_autograd(gradients, setup_context=_setup_context)
    backward_operator.register_fake(_gradient_shapes)

    def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        out, last_state, _ = operator(*inputs.values())
        return out, last_state

    return scan


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.dt_softplus = inputs
    kept = output[2]
    ctx.mark_non_differentiable(kept)
    ctx.set_materialize_grads(False)  # kept is large, and its gradient would be zeros
    ctx.save_for_backward(*tensors, kept)


def _gradient_shapes(
    grad_out: Tensor, grad_last: Tensor, kept: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    tensors = cast(tuple[Tensor | None, ...], given[:_TENSORS])
    return tuple(kept.new_empty(0 if x is None else x.shape) for x in tensors)
