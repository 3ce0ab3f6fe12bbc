"""State-space duality against its definition, token by token."""
# ruff: noqa: N803, N806, PLR0917 - A, B, C and D are what the field calls these matrices

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nnmedseg.ops.ssd import (
    SHORTEST_CHUNK,
    bidirectional_ssd,
    causal_ssd,
    chunk_length,
    noncausal_ssd,
)

LENGTHS = [1, 2, 63, 64, 65, 77, 257, 300]


def sequential(x, dt, A, B, C, D):
    """The definition of the causal form, in the type of the inputs."""
    B, C = (vectors.repeat_interleave(x.shape[2] // B.shape[2], 2) for vectors in (B, C))
    state = x.new_zeros(*x.shape[:1], *x.shape[2:], B.shape[-1])
    outputs = []
    for t in range(x.shape[1]):
        source = (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
        state = torch.exp(dt[:, t] * A)[..., None, None] * state + source
        outputs.append((state * C[:, t, :, None]).sum(-1) + D[:, None] * x[:, t])
    return torch.stack(outputs, 1)


def random_inputs(length, *, heads=4, groups=1, steps=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [
        normal(2, length, heads, 5),
        functional.softplus(3 * normal(2, length, heads)) * steps,
        -torch.linspace(0.5, 16, heads, dtype=torch.float64),
        normal(2, length, groups, 7),
        normal(2, length, groups, 7),
        normal(heads),
    ]
    return [value.to(dtype) for value in inputs]


def with_gradients(form, inputs):
    """The output and the gradients of every input, for fixed incoming gradients."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    y = form(*inputs)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * weights).sum(), inputs)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_causal_form_is_the_scan_with_gradients(length, groups):
    inputs = random_inputs(length, groups=groups)
    expected = with_gradients(sequential, inputs)
    for actual, wanted in zip(with_gradients(causal_ssd, inputs), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1e-6, 1, 1e3])
def test_float32_loses_no_digits_over_many_tokens(steps):
    inputs = random_inputs(1000, steps=steps)
    expected = sequential(*inputs)
    actual = causal_ssd(*(value.float() for value in inputs)).double()
    assert (actual - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_the_bidirectional_form_reverses_the_second_half():
    x, dt, A, B, C, D = random_inputs(100, heads=6, groups=2)
    first = sequential(x[:, :, :3], dt[..., :3], A[:3], B[:, :, :1], C[:, :, :1], D[:3])
    reverse = [tensor.flip(1) for tensor in (x[:, :, 3:], dt[..., 3:], B[:, :, 1:], C[:, :, 1:])]
    second = sequential(*reverse[:2], A[3:], *reverse[2:], D[3:]).flip(1)
    expected = torch.cat([first, second], 2)
    torch.testing.assert_close(bidirectional_ssd(x, dt, A, B, C, D), expected)


def test_the_noncausal_form_reads_one_sum_over_all_tokens():
    x, dt, A, B, C, D = random_inputs(50)
    state = torch.einsum("bsh,bsn,bshp->bhnp", -dt * A, B[:, :, 0], x)
    expected = torch.einsum("btn,bhnp->bthp", C[:, :, 0], state) + D[:, None] * x
    torch.testing.assert_close(noncausal_ssd(x, dt, A, B, C, D), expected)
    with torch.no_grad():
        torch.testing.assert_close(noncausal_ssd(x, dt, A, B, C, D), expected)


@pytest.mark.parametrize("form", [causal_ssd, noncausal_ssd])
def test_sums_of_half_precision_inputs_are_float32(form):
    inputs = random_inputs(10, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = form(*inputs)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, form(*(value.float() for value in inputs)))


def test_chunks_grow_with_the_cube_root_of_the_length():
    assert chunk_length(7) == 7
    assert chunk_length(16_384) == SHORTEST_CHUNK
    assert chunk_length(65_536) == 2 * SHORTEST_CHUNK
