"""FLOPs against numbers counted by hand, and against the same network in counted operators."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nnmedseg.networks import create_network, list_networks
from nnmedseg.ops import deformable_depthwise_conv, depthwise_conv, selective_scan
from nnmedseg.ops.flops import count_flops, register_formulas
from nnmedseg.ops.window_mix import mix_windows


def on_meta(*shape):
    return torch.empty(*shape, device="meta", requires_grad=True)


def forward_and_backward(operation, *inputs):
    """FLOPs of a forward pass and of the backward pass after it."""
    register_formulas()
    with FlopCounterMode(display=False) as forward:
        out = operation(*inputs)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def test_the_scan():
    tokens, channels, states = 2 * 50, 4, 3
    inputs = [on_meta(2, 50, 4), on_meta(2, 50, 4), on_meta(4, 3), on_meta(2, 50, 3)]
    counted = forward_and_backward(selective_scan, *inputs, on_meta(2, 50, 3))
    per_channel = tokens * channels
    assert counted == (per_channel * (6 * states + 1), per_channel * (18 * states + 4))


def test_a_wide_depthwise_convolution_counts_as_the_native_one():
    x, weight = torch.zeros(2, 4, 9, 12), torch.zeros(4, 1, 5, 7)
    inputs = x.requires_grad_(), weight.requires_grad_()
    values = 2 * 4 * 9 * 12
    assert forward_and_backward(depthwise_conv, *inputs) == (2 * 35 * values, 4 * 35 * values)
    native = partial(functional.conv2d, padding=(2, 3), groups=4)
    assert forward_and_backward(native, *inputs)[0] == 2 * 35 * values


def test_mixing_in_windows_is_one_matrix_product_a_window():
    counted = forward_and_backward(mix_windows, on_meta(2, 3, 9, 9, 4, 5), on_meta(2, 12, 4, 5))
    values = 2 * 12 * 4 * 5
    assert counted == (2 * 81 * values, 4 * 81 * values)


@pytest.mark.parametrize(("mode", "read"), [("bilinear", 4), ("nearest", 0), ("bicubic", 16)])
def test_sampling(mode, read):
    def sample(x, grid):
        return functional.grid_sample(x, grid, mode=mode, align_corners=False)

    values = 2 * 3 * 6 * 7
    counted = forward_and_backward(sample, on_meta(2, 3, 4, 5), on_meta(2, 6, 7, 2))
    assert counted == (2 * read * values, 3 * 2 * read * values)


def test_sampling_with_a_fixed_grid_has_one_gradient():
    grid = on_meta(2, 6, 7, 2).detach()
    counted = forward_and_backward(
        lambda x: functional.grid_sample(x, grid, align_corners=False), on_meta(2, 3, 4, 5)
    )
    assert counted == (2 * 4 * 2 * 3 * 6 * 7, 2 * 4 * 2 * 3 * 6 * 7)


@pytest.mark.parametrize(("form", "forward", "backward"), [("sampling", 8, 24), ("numba", 10, 36)])
def test_the_deformable_convolution(monkeypatch, form, forward, backward):
    """The samplings' products with the filters are steps that take one value at a time."""
    if form == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv("NNMEDSEG_DEFORMABLE", form)
    inputs = on_meta(2, 3, 8, 8), on_meta(2, 18, 8, 8), on_meta(3, 1, 3, 3)
    counted = forward_and_backward(deformable_depthwise_conv, *inputs)
    values = 9 * 2 * 3 * 8 * 8
    assert counted == (forward * values, backward * values)


def test_torchvisions_deformable_convolution():
    ops = pytest.importorskip("torchvision.ops")

    def convolve(x, offset, weight):
        return ops.deform_conv2d(x, offset, weight, padding=1)

    inputs = on_meta(2, 4, 8, 8), on_meta(2, 18, 8, 8), on_meta(6, 2, 3, 3)
    pixels = 2 * 8 * 8
    sampled, convolved = pixels * 4 * 9, pixels * 6 * 2 * 9
    expected = (2 * (4 * sampled + convolved), 2 * (16 * sampled + 2 * convolved))
    assert forward_and_backward(convolve, *inputs) == expected


class Attention(nn.Module):
    """Fused attention over the pixels, after a 1x1 convolution."""

    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(3, 8, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image):
        tokens = self.project(image).flatten(2).transpose(1, 2)
        return functional.scaled_dot_product_attention(tokens, tokens, self.dropout(tokens))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_convolution_and_fused_attention_of_a_small_network(device):
    network = Attention().to(device)
    batch, pixels = 2, 4 * 5
    expected = 2 * batch * pixels * 3 * 8 + 2 * 2 * batch * pixels**2 * 8
    assert count_flops(network, (batch, 3, 4, 5)) == expected
    assert all(module.training for module in network.modules())


def plain_attention(query, key, value, *, scale=None, **_):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return (query @ key.transpose(-2, -1) * scale).softmax(-1) @ value


def test_heteromedseg_counts_its_fused_attention(monkeypatch):
    with torch.device("meta"):
        network = create_network("heteromedseg", 3, 2)
    shape = (1, 3, network.min_size, network.min_size)
    counted = count_flops(network, shape)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", plain_attention)
    assert counted == count_flops(network, shape)


@pytest.mark.parametrize("name", list_networks())
def test_flops_grow_with_the_batch(name):
    with torch.device("meta"):
        network = create_network(name, 3, 2)
    one, two = (count_flops(network, (b, 3, network.min_size, network.min_size)) for b in (1, 2))
    assert one > 0
    assert two == pytest.approx(2 * one, rel=0.1)


@pytest.mark.slow
def test_the_first_count_of_a_process_is_complete():
    program = """
import torch
from nnmedseg.networks import create_network
from nnmedseg.ops.flops import count_flops
with torch.device("meta"):
    network = create_network("rosper", 3, 2)
print(*(count_flops(network, (1, 3, 64, 64)) for _ in range(2)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    first, second = done.stdout.split()
    assert first == second
