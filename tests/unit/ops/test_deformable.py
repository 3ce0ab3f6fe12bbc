"""Nine samplings against torchvision's deformable convolution."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.ops import deformable_depthwise_conv

torchvision = pytest.importorskip("torchvision")


def random_inputs(shape, dtype, spread=3.0):
    generator = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    offset = torch.randn(batch, 18, height, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(channels, 1, 3, 3, generator=generator, dtype=torch.float64)
    return [t.to(dtype).requires_grad_() for t in (x, offset * spread, weight)]


def reference(x, offset, weight):
    return torchvision.ops.deform_conv2d(x, offset, weight, padding=1)


@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 3, 1, 1), (2, 3, 1, 6), (2, 3, 6, 1)])
def test_agrees_with_torchvision(shape):
    inputs = random_inputs(shape, torch.float64)
    expected, actual = reference(*inputs), deformable_depthwise_conv(*inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)
    incoming = torch.randn_like(expected)
    for got, wanted in zip(
        torch.autograd.grad(actual, inputs, incoming),
        torch.autograd.grad(expected, inputs, incoming),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)


def test_float32_error_is_small():
    inputs = [t.detach() for t in random_inputs((2, 8, 64, 48), torch.float32)]
    exact = reference(*(t.double() for t in inputs))
    error = (deformable_depthwise_conv(*inputs).double() - exact).abs().max() / exact.abs().max()
    assert error < 5e-6


def test_zero_offsets_are_an_ordinary_convolution():
    x, offset, weight = random_inputs((2, 5, 7, 9), torch.float64, spread=0.0)
    expected = torch.nn.functional.conv2d(x, weight, padding=1, groups=5)
    torch.testing.assert_close(deformable_depthwise_conv(x, offset, weight), expected)


def test_channels_last_stays_channels_last():
    x, offset, weight = random_inputs((2, 5, 7, 9), torch.float32)
    out = deformable_depthwise_conv(x.to(memory_format=torch.channels_last), offset, weight)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, deformable_depthwise_conv(x, offset, weight))


def test_autocast_samples_in_float32():
    inputs = [t.detach() for t in random_inputs((1, 4, 8, 8), torch.float32)]
    expected = deformable_depthwise_conv(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(deformable_depthwise_conv(*inputs), expected)
