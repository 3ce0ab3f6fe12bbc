# ruff: noqa: N806 - A, B and C are what the field calls these matrices
"""The selective scan in plain PyTorch: all chunks of the sequence step together.

The sequence is cut into K chunks of T tokens and the T steps are taken for all chunks at once:

1. from a zero state, find the state in which each chunk ends;
2. carry the states over the K chunks, whose total decay is ``exp(A * sum of delta)``;
3. take the T steps again, now from the right states, and write the output.

Only exponentials of negative numbers occur, so no length and no step size overflows (a form with
``exp(-cumsum)`` does). The backward pass is the mirror image, with the adjoint state; it keeps one
state in every ``CHECKPOINT_STEPS`` tokens and recomputes those between.

Inside, a step is laid out ``(D, N, lanes)`` with lanes = batch x chunks innermost: every broadcast
is then along an outer axis, and each operation runs over long contiguous rows.

To PyTorch's compiler, exporter and FLOP counter, the forward and the backward pass are one operator
each; on tensors without values they give the shapes alone, of what is kept too, byte for byte.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional

from nnmedseg.ops._scan_inputs import ScanInputs

STEP_VALUES = {"cpu": 2**16, "meta": 2**16}
"""State values that one step should touch: enough to hide the cost of a call, few enough for L2."""

STEP_VALUES_ELSEWHERE = 2**22
"""The same for GPUs, where starting a kernel costs more than a million values."""

CHECKPOINT_STEPS = 16
"""Tokens between two states that are kept for the backward pass (a power of two)."""


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Output ``(B, L, D)`` and last state ``(B, D, N)`` of `selective_scan`."""
    delta = inputs.dt if inputs.dt_bias is None else inputs.dt + inputs.dt_bias
    if inputs.dt_softplus:
        delta = functional.softplus(delta)
    y, last_state, _ = selective_scan_chunked(inputs.u, delta, inputs.A, inputs.B, inputs.C)
    if inputs.D is not None:
        y = torch.addcmul(y, inputs.D, inputs.u)
    if inputs.z is not None:
        y = y * functional.silu(inputs.z)
    return y, last_state


def steps_per_chunk(length: int, values: int, step_values: int) -> int:
    """Tokens a chunk T, a power of two.

    Args:
        length: Tokens of the sequence; T is at most 4 sqrt(length), as the chunks are carried
            over one by one.
        values: State values of all tokens, B L D N.
        step_values: How many of them a step should touch.
    """
    steps = min(values / step_values, 4 * math.sqrt(length))
    return 2 ** int(math.log2(max(steps, min(length, CHECKPOINT_STEPS))))


class _Layout:
    """Where the tokens of ``(B, L, F)`` lie when cut into chunks: ``(T, F, B * K)``."""

    def __init__(self, u: Tensor, states: int):
        batch, length, channels = u.shape
        self.batch, self.length = batch, length
        step_values = STEP_VALUES.get(u.device.type, STEP_VALUES_ELSEWHERE)
        self.steps = steps_per_chunk(length, u.numel() * states, step_values)
        self.chunks = -(-length // self.steps)
        self.spacing = min(self.steps, CHECKPOINT_STEPS)
        self.state_shape = (channels, states, batch * self.chunks)
        self.kept_shape = (self.steps // self.spacing, *self.state_shape)

    def to_steps(self, tokens: Tensor) -> Tensor:
        """``(B, L, F)`` to ``(T, F, B * K)``; tokens past the end are zero and change no state."""
        features = tokens.shape[-1]
        missing = self.chunks * self.steps - self.length
        if missing:
            tokens = functional.pad(tokens, (0, 0, 0, missing))
        # A transpose of two dimensions, which PyTorch copies in blocks: 3x faster than a permute.
        rows = tokens.reshape(self.batch * self.chunks, self.steps * features)
        return rows.t().contiguous().view(self.steps, features, -1)

    def to_tokens(self, steps: Tensor) -> Tensor:
        """``(T, F, B * K)`` to ``(B, L, F)``."""
        rows = steps.flatten(0, 1).t().contiguous()
        tokens = rows.view(self.batch, self.chunks * self.steps, steps.shape[1])
        return tokens[:, : self.length].contiguous()

    def carry(
        self, ends: Tensor, decay: Tensor, first: Tensor | None, *, backwards: bool
    ) -> Tensor:
        """Turn the states that chunks end in when started from zero into those they start from."""
        cut = (*ends.shape[:2], self.batch, self.chunks)
        ends, decay = (x.view(cut).movedim(-1, 0).contiguous() for x in (ends, decay))
        starts = torch.zeros_like(ends)
        order = list(range(self.chunks))
        if backwards:
            order.reverse()
        if first is not None:
            starts[order[0]] = first
        for here, after in itertools.pairwise(order):
            torch.addcmul(ends[here], decay[here], starts[here], out=starts[after])
        return starts.movedim(0, -1).flatten(2).contiguous()

    def last(self, state: Tensor) -> Tensor:
        """The state ``(B, D, N)`` after the last chunk."""
        cut = state.view(*state.shape[:2], self.batch, self.chunks)
        return cut[..., -1].permute(2, 0, 1).contiguous()


class _Steps:
    """The scan's inputs cut into chunks, and the walk through them from left to right."""

    def __init__(self, layout: _Layout, saved: tuple[Tensor, ...]):
        u, delta, A, B, C = saved
        self.layout = layout
        self.u, self.delta, self.B, self.C = (layout.to_steps(x) for x in (u, delta, B, C))
        self.rates = A.unsqueeze(-1)
        self.source = self.delta * self.u

    def decay(self, t: int, out: Tensor) -> Tensor:
        """``exp(delta_t A)``."""
        return torch.mul(self.delta[t].unsqueeze(1), self.rates, out=out).exp_()

    def chunk_decay(self) -> Tensor:
        """The product of a chunk's decays."""
        return torch.exp(self.delta.sum(0).unsqueeze(1) * self.rates)

    def step(self, t: int, state: Tensor, decay: Tensor, out: Tensor) -> None:
        """One token: the state before it to the state after it."""
        torch.mul(state, decay, out=out)
        out.addcmul_(self.source[t].unsqueeze(1), self.B[t])

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Output ``(T, D, B * K)``, end states ``(D, N, B * K)`` and the kept states."""
        layout = self.layout
        state = self.u.new_zeros(layout.state_shape)
        decay, product = torch.empty_like(state), torch.empty_like(state)
        if layout.chunks > 1:
            for t in range(layout.steps):
                self.step(t, state, self.decay(t, decay), out=state)
            state = layout.carry(state, self.chunk_decay(), None, backwards=False)
        kept = self.u.new_empty(layout.kept_shape)
        y = torch.empty_like(self.u)
        for t in range(layout.steps):
            if t % layout.spacing == 0:
                kept[t // layout.spacing] = state
            self.step(t, state, self.decay(t, decay), out=state)
            torch.sum(torch.mul(state, self.C[t], out=product), 1, out=y[t])
        return y, state, kept


class _Adjoint:
    """The walk from right to left, block by block of recomputed states."""

    def __init__(self, steps: _Steps, grad_y: Tensor):
        layout, self.steps = steps.layout, steps
        self.grad_y = layout.to_steps(grad_y)
        self.states = grad_y.new_empty((layout.spacing + 1, *layout.state_shape))
        self.decays = torch.empty_like(self.states[1:])
        self.product = torch.empty_like(self.states[0])
        self.grad_source = torch.empty_like(self.grad_y)
        self.grad_delta = torch.empty_like(self.grad_y)
        self.grad_rates = torch.zeros_like(self.product)
        self.grad_B = torch.empty_like(steps.B)
        self.grad_C = torch.empty_like(steps.C)

    def starts(self, grad_last: Tensor) -> Tensor:
        """The gradient that reaches each chunk's end state from the chunks to its right."""
        steps, layout = self.steps, self.steps.layout
        adjoint = torch.zeros_like(self.product)
        if layout.chunks > 1:
            for t in reversed(range(layout.steps)):
                adjoint.addcmul_(self.grad_y[t].unsqueeze(1), steps.C[t])
                adjoint.mul_(steps.decay(t, self.product))
        first = grad_last.permute(1, 2, 0)
        return layout.carry(adjoint, steps.chunk_decay(), first, backwards=True)

    def walk(self, kept: Tensor, adjoint: Tensor) -> None:
        """Fill the gradients of the steps; ``adjoint`` comes from `starts` and is overwritten."""
        for block in reversed(range(kept.shape[0])):
            self._recompute(block, kept[block])
            self._back(block, adjoint)

    def _recompute(self, block: int, kept: Tensor) -> None:
        self.states[0] = kept
        for here in range(self.steps.layout.spacing):
            t = block * self.steps.layout.spacing + here
            decay = self.steps.decay(t, self.decays[here])
            self.steps.step(t, self.states[here], decay, out=self.states[here + 1])

    def _back(self, block: int, adjoint: Tensor) -> None:
        steps, product = self.steps, self.product
        for here in reversed(range(steps.layout.spacing)):
            t = block * steps.layout.spacing + here
            incoming, source = self.grad_y[t].unsqueeze(1), steps.source[t].unsqueeze(1)
            torch.sum(
                torch.mul(self.states[here + 1], incoming, out=product), 0, out=self.grad_C[t]
            )
            adjoint.addcmul_(incoming, steps.C[t])
            torch.sum(torch.mul(adjoint, steps.B[t], out=product), 1, out=self.grad_source[t])
            torch.sum(torch.mul(adjoint, source, out=product), 0, out=self.grad_B[t])
            adjoint.mul_(self.decays[here])
            torch.mul(adjoint, self.states[here], out=product)
            self.grad_rates.addcmul_(product, steps.delta[t].unsqueeze(1))
            torch.sum(product.mul_(steps.rates), 1, out=self.grad_delta[t])


@custom_op(
    "nnmedseg::selective_scan_chunked",
    mutates_args=(),
    schema="(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C) -> (Tensor, Tensor, Tensor)",
)
def selective_scan_chunked(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output ``(B, L, D)``, last state ``(B, D, N)`` and the states kept for the backward pass."""
    u, _, A, _, _ = given
    layout = _Layout(u, A.shape[1])
    y, state, kept = _Steps(layout, given).forward()
    return layout.to_tokens(y), layout.last(state), kept


@selective_scan_chunked.register_fake
def _shapes(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, _, A, _, _ = given
    kept = u.new_empty(_Layout(u, A.shape[1]).kept_shape)
    return u.new_empty(u.shape), u.new_empty((u.shape[0], *A.shape)), kept


@custom_op(
    "nnmedseg::selective_scan_chunked_backward",
    mutates_args=(),
    schema="(Tensor grad_y, Tensor grad_last, Tensor kept, Tensor u, Tensor delta, Tensor A,"
    " Tensor B, Tensor C) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def selective_scan_chunked_backward(
    grad_y: Tensor, grad_last: Tensor, kept: Tensor, *given: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of u, delta, A, B and C; has none itself, so a second derivative raises."""
    u, _, A, _, _ = given
    layout = _Layout(u, A.shape[1])
    steps = _Steps(layout, given)
    adjoint = _Adjoint(steps, grad_y)
    adjoint.walk(kept, adjoint.starts(grad_last))
    grad_u = layout.to_tokens(steps.delta * adjoint.grad_source)
    grad_delta = layout.to_tokens(adjoint.grad_delta.addcmul_(steps.u, adjoint.grad_source))
    grad_B, grad_C = layout.to_tokens(adjoint.grad_B), layout.to_tokens(adjoint.grad_C)
    return grad_u, grad_delta, adjoint.grad_rates.sum(-1), grad_B, grad_C


@selective_scan_chunked_backward.register_fake
def _gradient_shapes(
    grad_y: Tensor, grad_last: Tensor, kept: Tensor, *given: Tensor
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in given)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    kept = output[2]
    ctx.mark_non_differentiable(kept)
    ctx.set_materialize_grads(False)  # kept is large, and its gradient would be zeros
    ctx.save_for_backward(*inputs, kept)


def _gradients(
    ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None, _: None
) -> tuple[Tensor, ...]:
    *given, kept = ctx.saved_tensors
    u, _, A, _, _ = given
    if grad_y is None:
        grad_y = torch.zeros_like(u)
    if grad_last is None:
        grad_last = u.new_zeros((u.shape[0], *A.shape))
    return cast(
        tuple[Tensor, ...], selective_scan_chunked_backward(grad_y, grad_last, kept, *given)
    )


selective_scan_chunked.register_autograd(_gradients, setup_context=_setup_context)
