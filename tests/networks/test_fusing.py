"""Networks fused for inference: the same logits, and no batch norm left that could be folded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nnmedseg.errors import UserError
from nnmedseg.networks import get_network_class, list_networks
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.fusing import fused_copy
from nnmedseg.networks.layers.convolution import ConcatenatedPointwise, SummedDepthwise
from nnmedseg.networks.layers.gates import SpatialGate
from nnmedseg.networks.layers.layout import lay_out_weights
from nnmedseg.networks.layers.timm_encoder import TimmEncoder
from nnmedseg.networks.layers.token_grid import TokenDepthwiseConv2d

EVERY_NETWORK = pytest.mark.parametrize("name", list_networks())

NORMS_THAT_STAY = {
    # Their output is what a convolution reads and what the second prompt weighs.
    "rosper": {f"encoder.{stage}.pmm.batch_norm" for stage in range(4)},
}


def randomize(module: nn.Module) -> nn.Module:
    """Give batch norms the statistics and weights of a trained network, negative ones among them.

    At initialisation they change nothing, and a wrong fold would not show.
    """
    torch.manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.bias, 0, 0.3)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            norm.weight.data[::3] *= -1
    return module.eval()


@pytest.fixture
def network(name, build_small):
    torch.manual_seed(0)
    return randomize(build_small(name, 3, 2))


@pytest.fixture
def image(name):
    side = get_network_class(name).min_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 2 * side, 3 * side, generator=generator)


def outputs(network, image):
    with torch.no_grad():
        output = network(image)
    return output if isinstance(output, list) else [output]


def assert_close(ours, expected, tolerance=1e-5):
    """Compare relative to the largest entry."""
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert one.shape == other.shape
        error = (one.float() - other.float()).abs().max() / other.float().abs().max()
        assert error <= tolerance


@EVERY_NETWORK
def test_all_outputs_stay_the_same(network, image):
    assert_close(outputs(network.fuse(), image), outputs(network, image))


@EVERY_NETWORK
def test_deep_supervision_can_still_be_switched(network, image):
    fused = network.fuse()
    fused.deep_supervision = network.deep_supervision = False
    assert_close(outputs(fused, image), outputs(network, image))


@EVERY_NETWORK
def test_the_network_itself_is_untouched(network, image):
    before, expected = copy.deepcopy(network.state_dict()), outputs(network, image)
    trained = [p.requires_grad for p in network.parameters()]
    network.train().fuse()
    assert network.training
    after = network.eval().state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [p.requires_grad for p in network.parameters()] == trained
    assert all(map(torch.equal, outputs(network, image), expected))


@EVERY_NETWORK
def test_it_shares_no_memory_with_the_network(network):
    addresses = {tensor.data_ptr() for tensor in network.state_dict().values()}
    fused = network.fuse().state_dict().values()
    assert addresses.isdisjoint(tensor.data_ptr() for tensor in fused)


@EVERY_NETWORK
def test_only_norms_that_cannot_be_folded_are_left(name, network):
    left = {key for key, m in network.fuse().named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert left == NORMS_THAT_STAY.get(name, set())


@EVERY_NETWORK
def test_inference_mode_and_either_layout_change_nothing(network, image):
    expected = outputs(network, image)
    fused = network.fuse()
    lay_out_weights(fused, image.device)
    with torch.inference_mode():
        for layout in (torch.contiguous_format, torch.channels_last):
            assert_close(outputs(fused, image.contiguous(memory_format=layout)), expected)


@EVERY_NETWORK
def test_bfloat16_autocast_stays_as_near_as_unfused(network, image):
    expected = outputs(network, image)[0]
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (outputs(x, image)[0] for x in (network.fuse(), network))
    assert (ours - expected).abs().mean() <= 2 * (theirs - expected).abs().mean()


@EVERY_NETWORK
def test_it_cannot_be_trained(network):
    fused = network.fuse()
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())
    with pytest.raises(UserError, match="no training mode"):
        fused.train()
    assert not any(module.training for module in fused.modules())


@EVERY_NETWORK
def test_networks_built_alike_exchange_fused_parameters(name, network, image, build_small):
    other = randomize(build_small(name, 3, 2)).fuse()
    other.load_state_dict(network.fuse().state_dict())
    assert_close(outputs(other, image), outputs(network, image))


@EVERY_NETWORK
def test_a_fused_network_can_be_fused_again(network, image):
    fused = network.fuse()
    assert_close(outputs(fused.fuse(), image), outputs(fused, image))


@EVERY_NETWORK
def test_a_fused_planned_network_takes_any_size(name, network, image):
    planned = PlannedNetwork(3, 2, network=name, **network.options)
    planned.network.load_state_dict(network.state_dict())
    planned.eval()
    odd = image[..., :-3, :-5]
    fused = planned.fuse()
    assert_close(outputs(fused, odd), outputs(planned, odd))
    assert (fused.network.is_fused, planned.network.is_fused) == (True, False)


@pytest.mark.parametrize("encoder", ["resnet50", "pvt_v2_b2"])
def test_both_encoders_stay_the_same(encoder):
    torch.manual_seed(0)
    network = randomize(TimmEncoder(encoder, 3))
    image = torch.randn(1, 3, 64, 96)
    fused = fused_copy(network)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert_close(outputs(fused, image), outputs(network, image))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, stride=2, bias=False),
        nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
    ],
    ids=["without bias", "grouped", "transposed"],
)
def test_a_norm_after_a_convolution_is_folded(conv):
    sequence = randomize(nn.Sequential(conv, nn.BatchNorm2d(6)))
    x = torch.randn(2, 4, 8, 9)
    fused = fused_copy(sequence)
    assert type(fused) is type(conv)
    assert_close(outputs(fused, x), outputs(sequence, x))


@pytest.mark.parametrize(
    "sequence",
    [
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(TokenDepthwiseConv2d(4, 3), nn.BatchNorm2d(4)),
    ],
    ids=["batch statistics", "grouped transposed", "activation between", "other forward method"],
)
def test_a_norm_that_cannot_be_folded_stays(sequence):
    sequence.eval()
    x = torch.randn(2, 4, 4, 4)
    fused = fused_copy(sequence)
    assert [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert_close(outputs(fused, x), outputs(sequence, x), 0)


class _NormFirst(nn.Sequential):
    def forward(self, x):
        conv, norm = self
        return conv(norm(x))


class _Attributes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.conv(self.norm(x))


@pytest.mark.parametrize(
    "module", [_NormFirst(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), _Attributes()]
)
def test_the_order_of_modules_that_are_no_sequence_is_not_guessed(module):
    randomize(module)
    x = torch.randn(2, 4, 4, 4)
    assert_close(outputs(fused_copy(module), x), outputs(module, x), 0)


def test_a_module_used_at_two_places_is_fused_once():
    shared = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    twice = randomize(nn.Sequential(shared, nn.ReLU(), shared))
    fused = fused_copy(twice)
    x = torch.randn(2, 4, 4, 4)
    assert fused[0] is fused[2]
    assert_close(outputs(fused, x), outputs(twice, x))


def test_maps_of_different_widths_are_projected_without_being_concatenated():
    conv = ConcatenatedPointwise(8, 3).eval()
    maps = [torch.randn(2, channels, 5, 6) for channels in (1, 5, 2)]
    with torch.no_grad():
        torch.testing.assert_close(fused_copy(conv)(*maps), conv(*maps))


@pytest.mark.parametrize(("channels", "summed"), [(4, False), (32, True)])
def test_a_gate_of_many_channels_is_convolved_depthwise(channels, summed):
    gate = randomize(SpatialGate(channels, channels // 2, channels // 2))
    fused = fused_copy(gate)
    x = torch.randn(2, channels, 9, 10)
    assert isinstance(fused.gate, SummedDepthwise) == summed
    assert_close(outputs(fused, x), outputs(gate, x))
