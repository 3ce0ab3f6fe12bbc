"""nnU-Net's 2D networks compute the same in channels_last, and leave it nowhere."""

from __future__ import annotations

import copy

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnmedseg.inference.cpu_layout import ChannelsLastInstanceNorm, lay_out_for_cpu
from nnmedseg.inference.predictor import MedSegPredictor

from .plain_model import plain_model

STAGES = 4
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def u_net(kind=PlainConvUNet, dimensions=2, **norm_options):
    torch.manual_seed(0)
    convolution, norm = {
        2: (nn.Conv2d, nn.InstanceNorm2d),
        3: (nn.Conv3d, nn.InstanceNorm3d),
    }[dimensions]
    network = kind(
        3, STAGES, [8, 16, 24, 32], convolution, 3, [1, 2, 2, 2], 2, 3, 1, conv_bias=True,
        norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True, **norm_options},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=False,
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, norm) and module.affine:
            nn.init.normal_(module.weight), nn.init.normal_(module.bias)
    return network.eval()


def laid_out(network):
    result = copy.deepcopy(network)
    lay_out_for_cpu(result)
    return result


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": True}], ids=str)
@torch.inference_mode()
def test_logits_stay_the_same(kind, options):
    network = u_net(kind, **options)
    images = 100 * torch.rand(2, 3, 48, 32)
    torch.testing.assert_close(laid_out(network)(images), network(images), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_no_map_leaves_the_layout():
    network = laid_out(u_net())
    layouts = []

    def look(_module, _inputs, output):
        layouts.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(look)
    network(torch.rand(1, 3, 48, 32))
    assert len(layouts) > 3 * STAGES
    assert all(layouts)


def test_the_state_dict_keeps_its_names():
    network = u_net()
    assert list(laid_out(network).state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("shape", [(2, 5, 33, 20), (1, 1, 40, 24), (3, 16, 1, 200)])
@torch.inference_mode()
def test_channels_far_from_zero_are_normalised_as_exactly_as_any(shape):
    norm = ChannelsLastInstanceNorm(shape[1], affine=True)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    maps = torch.rand(shape) + 10 * torch.arange(shape[1])[:, None, None]
    expected = copy.deepcopy(norm).double()(maps.double()).float()
    laid_out = maps.clone(memory_format=torch.channels_last)
    found = norm(laid_out)
    assert found is laid_out
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=1e-5)


def test_maps_are_overwritten_in_inference_alone():
    norm = ChannelsLastInstanceNorm(4)
    maps = torch.rand(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    before = maps.clone()
    assert norm(maps) is not maps
    assert torch.equal(maps, before)


def test_a_map_of_one_pixel_is_refused_as_by_pytorch():
    with torch.inference_mode(), pytest.raises(ValueError, match="more than 1 spatial element"):
        ChannelsLastInstanceNorm(4)(torch.rand(1, 4, 1, 1))


def test_other_networks_stay_as_they_are():
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
    for network in (own, u_net(dimensions=3)):
        kinds = [type(module) for module in network.modules()]
        lay_out_for_cpu(network)
        assert [type(module) for module in network.modules()] == kinds
        weights = [parameter for parameter in network.parameters() if parameter.dim() > 3]
        assert all(weight.is_contiguous() for weight in weights)


def test_predictions_on_a_cpu_are_made_so(tmp_path):
    model = plain_model(tmp_path, folds=(0, 1))
    for network in MedSegPredictor.from_folder(model).networks:
        kinds = {type(module) for module in network.modules()}
        assert ChannelsLastInstanceNorm in kinds
        assert nn.InstanceNorm2d not in kinds
        weights = [
            module.weight for module in network.modules() if isinstance(module, CONVOLUTIONS)
        ]
        last = [weight.is_contiguous(memory_format=torch.channels_last) for weight in weights]
        assert last
        assert all(last)
