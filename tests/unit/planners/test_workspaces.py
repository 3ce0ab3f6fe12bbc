"""What operations take beside their results while they run."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from nnmedseg.ops import deformable_depthwise_conv, selective_scan
from nnmedseg.ops._simulated_device import simulated_device
from nnmedseg.planners._live_memory import LiveMemory
from nnmedseg.planners._workspaces import WORKSPACES

TOKENS, STATES, CHANNELS = (2, 4096, 16), 16, 16


def on_meta(*shape):
    return torch.zeros(shape, device="meta", requires_grad=True)


def scan():
    tokens, vectors = (on_meta(*TOKENS) for _ in range(3)), on_meta(*TOKENS[:2], STATES)
    u, dt, z = tokens
    return selective_scan(u, dt, on_meta(CHANNELS, STATES), vectors, vectors, z=z)


def convolution():
    maps = on_meta(2, 16, 64, 64)
    return deformable_depthwise_conv(maps, on_meta(2, 18, 64, 64), on_meta(16, 1, 3, 3))


def attention():
    tokens = on_meta(2, 2, 4096, 32)
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    return flash(tokens.half(), tokens.half(), tokens.half())[0]


OPERATIONS = [
    pytest.param(scan, id="scan", marks=pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is for CUDA")),
    pytest.param(convolution, id="convolution", marks=pytest.mark.skipif(
        importlib.util.find_spec("torchvision") is None, reason="torchvision is optional")),
    attention,
]  # fmt: skip


def peak(run, workspaces):
    live = LiveMemory(batch=1, workspaces=workspaces)
    with simulated_device("cuda"), live:
        run().sum().backward()
    return live.peaks[2].per_sample


@pytest.mark.parametrize("run", OPERATIONS)
def test_workspaces_of_cudas_kernels_are_counted(run):
    assert peak(run, WORKSPACES["cuda"]) > peak(run, {})


def test_a_deformable_convolution_takes_its_unfolded_map():
    pytest.importorskip("torchvision")
    maps = 2 * 16 * 64 * 64 * 4
    live = LiveMemory(batch=1, workspaces=WORKSPACES["cuda"])
    with simulated_device("cuda"), torch.no_grad(), live:
        convolution()
    assert live.peaks[2].per_sample >= 10 * maps
