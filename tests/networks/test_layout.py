"""Maps and weights in channels_last on CPUs and CUDA devices."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnmedseg.networks import list_networks
from nnmedseg.networks.layers.depthwise import DepthwiseConv2d
from nnmedseg.networks.layers.layout import channels_last, lay_out_weights

needs_cuda_build = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="a build without CUDA has no fake CUDA tensors"
)


def is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=needs_cuda_build)], ids=["CPU", "CUDA"]
)
def test_convolutions_of_maps_answer_in_channels_last(channels, device):
    # Fake tensors have the layout of real ones, and need no such device.
    with FakeTensorMode(), torch.device(device):
        maps = channels_last(torch.empty(2, channels, 6, 5))
        assert is_channels_last(nn.Conv2d(channels, 4, 3)(maps))


def test_maps_on_other_devices_stay_as_they_are():
    maps = torch.empty(2, 3, 6, 5, device="meta")
    assert channels_last(maps) is maps


@pytest.mark.parametrize("name", list_networks())
@pytest.mark.parametrize("channels", [1, 3])
def test_all_convolutions_answer_in_channels_last(name, channels, build_small):
    network = build_small(name, channels, 2).eval()
    others = []

    def check(key, answer):
        if not is_channels_last(answer):
            others.append(key)

    for key, module in network.named_modules():
        # The points of ProMISe are found in maps that are contiguous on purpose.
        if type(module) in (nn.Conv2d, DepthwiseConv2d) and not key.startswith("apm.resnet"):
            module.register_forward_hook(lambda _, inputs, answer, key=key: check(key, answer))
    with torch.no_grad():
        network(torch.randn(2, channels, 64, 96))
    assert others == []


def test_only_weights_of_convolutions_are_laid_out():
    module = nn.Sequential(nn.Conv2d(4, 6, 3))
    module.table = nn.Parameter(torch.randn(2, 3, 4, 5))
    before = module[0].weight.clone()
    lay_out_weights(module, torch.device("cpu"))
    assert is_channels_last(module[0].weight)
    assert torch.equal(module[0].weight, before)
    assert module.table.is_contiguous()


def test_weights_for_other_devices_stay_as_they_are():
    module = nn.Conv2d(4, 6, 3)
    lay_out_weights(module, torch.device("mps"))
    assert module.weight.is_contiguous()
