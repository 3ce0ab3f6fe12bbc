"""Wide depthwise convolutions against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nnmedseg.ops import depthwise_conv
from nnmedseg.ops.depthwise import _forms


def native(x, weight, bias):
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return functional.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])


def random_inputs(shape, kernel, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    channels = shape[1]
    shapes = (shape, (channels, 1, *kernel), (channels,))
    return [
        torch.randn(*s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for s in shapes
    ]


CASES = [
    ((2, 5, 20, 17), (7, 7)),
    ((2, 4, 16, 30), (11, 11)),
    ((2, 3, 4, 20), (15, 15)),  # higher than the map
    ((2, 3, 20, 4), (15, 15)),  # wider than the map
    ((1, 3, 1, 1), (11, 11)),
    ((2, 4, 6, 18), (1, 15)),
    ((2, 4, 18, 6), (15, 1)),
    ((2, 4, 9, 9), (3, 3)),
    ((1, 1, 9, 9), (5, 5)),
    ((2, 3, 7, 15), (3, 15)),
]


@pytest.mark.parametrize(("shape", "kernel"), CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_output_and_gradients_are_the_native_ones(shape, kernel, channels_last):
    x, weight, bias = random_inputs(shape, kernel)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    given = (x.to(memory_format=layout), weight, bias)
    expected, actual = native(*given), depthwise_conv(*given)
    torch.testing.assert_close(actual, expected)
    incoming = torch.randn_like(expected)
    for got, wanted in zip(
        torch.autograd.grad(actual, (x, weight, bias), incoming),
        torch.autograd.grad(expected, (x, weight, bias), incoming),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)


def test_gradcheck():
    assert torch.autograd.gradcheck(depthwise_conv, random_inputs((1, 1, 3, 7), (3, 5)))


def test_a_wide_kernel_takes_our_gradients():
    wide = depthwise_conv(*random_inputs((2, 5, 20, 17), (7, 7)))
    narrow = depthwise_conv(*random_inputs((2, 5, 20, 17), (3, 3)))
    assert "wide_depthwise_conv" in wide.grad_fn.name()
    assert "wide_depthwise_conv" not in narrow.grad_fn.name()


def test_an_input_without_gradient_still_trains_the_filters():
    x, weight, bias = random_inputs((2, 5, 20, 17), (7, 7))
    depthwise_conv(x.detach(), weight, bias).sum().backward()
    assert weight.grad.isfinite().all()


def test_bias_may_be_left_out():
    x, weight, _ = random_inputs((2, 5, 20, 17), (7, 7))
    depthwise_conv(x, weight).sum().backward()
    torch.testing.assert_close(depthwise_conv(x, weight), native(x, weight, None))


def test_autocast_trains():
    x, weight, bias = random_inputs((2, 5, 20, 17), (7, 7), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = depthwise_conv(x.bfloat16(), weight, bias)
    out.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), native(x, weight, bias), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("form", ["numba", "strips"])
@pytest.mark.parametrize(
    ("shape", "kernel"), [*CASES, ((1, 16, 40, 33), (7, 5)), ((3, 33, 9, 9), (1, 9))]
)
def test_the_filters_gradient_in_float32_agrees_with_float64(monkeypatch, form, shape, kernel):
    if form == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv("NNMEDSEG_DEPTHWISE", form)
    x, weight, _ = random_inputs(shape, kernel, torch.float32)
    incoming = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad(depthwise_conv(x, weight), weight, incoming)
    exact = native(x.double(), weight.double(), None)
    (expected,) = torch.autograd.grad(exact, weight, incoming.double())
    assert (found - expected).abs().max() <= 5e-6 * expected.abs().max()
    assert _forms.choose("cpu") == form  # not given up


def test_threads_change_the_filters_gradient_by_rounding_only():
    pytest.importorskip("numba")
    x, weight, _ = random_inputs((1, 32, 64, 48), (11, 11), torch.float32)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found += torch.autograd.grad(depthwise_conv(x, weight).square().sum(), weight)
    finally:
        torch.set_num_threads(before)
    assert (found[0] - found[1]).abs().max() <= 1e-6 * found[0].abs().max()


@pytest.mark.parametrize("trained", [False, True])
def test_bfloat16_is_convolved_in_float32(trained):
    x, weight, bias = random_inputs((1, 16, 40, 40), (15, 15), torch.float32)
    x = x.detach().to(memory_format=torch.channels_last).bfloat16()
    with torch.set_grad_enabled(trained), torch.autocast("cpu", dtype=torch.bfloat16):
        found = depthwise_conv(x, weight, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, native(x.float(), weight, bias).bfloat16())
