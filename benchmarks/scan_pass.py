"""The selective scan as the scripts run it: random inputs, ours and the peer's on the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from forms import SCAN, forced
from timing import Pass
from torch import Tensor

from nnmedseg.ops import selective_scan

STATES = 16
NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias")
"""The inputs in their order."""

Operation = Callable[..., Tensor]


def random_inputs(batch: int, length: int, channels: int, device: str = "cpu") -> list[Tensor]:
    """Leaves in the order of `NAMES`; rates and steps are those that Mamba starts from."""
    tokens = [torch.randn(batch, length, channels, device=device) for _ in range(3)]
    vectors = [torch.randn(batch, length, STATES, device=device) for _ in range(2)]
    rates = -torch.arange(1.0, STATES + 1, device=device).repeat(channels, 1)
    steps = 0.001 * 100 ** torch.rand(channels, device=device)  # log-uniform in [0.001, 0.1]
    bias = steps + torch.log(-torch.expm1(-steps))
    skip = torch.ones(channels, device=device)
    inputs = [tokens[0], tokens[1], rates, *vectors, skip, tokens[2], bias]
    return [x.requires_grad_() for x in inputs]


def ours(form: str) -> Operation:
    """Our scan in one form, on `random_inputs`."""
    return partial(_ours, form)


def _ours(form: str, *inputs: Tensor) -> Tensor:
    u, dt, rates, b, c, skip, z, bias = inputs
    with forced(**{SCAN: form}):
        out = selective_scan(u, dt, rates, b, c, D=skip, z=z, dt_bias=bias, dt_softplus=True)
    return cast(Tensor, out)


def as_peer_reads(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The same inputs with the tokens last, as `sequential_scan` takes them, as leaves."""
    tokens_last = (x.transpose(1, 2).contiguous() if x.ndim == 3 else x for x in inputs)
    return [x.detach().requires_grad_() for x in tokens_last]


def forward_pass(operation: Operation, inputs: Sequence[Tensor]) -> Pass:
    """What runs an operation without gradients."""

    def run() -> None:
        with torch.no_grad():
            operation(*inputs)

    return run


def training_pass(operation: Operation, inputs: Sequence[Tensor]) -> Pass:
    """What runs an operation and the gradients of all its inputs."""

    def run() -> None:
        out = operation(*inputs)
        torch.autograd.grad(out, inputs, torch.ones_like(out))

    return run


def outcome(operation: Operation, inputs: Sequence[Tensor], incoming: Tensor) -> list[Tensor]:
    """The output of an operation and the gradients of all its inputs."""
    out = operation(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, incoming)]
