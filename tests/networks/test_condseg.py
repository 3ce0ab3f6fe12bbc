"""ConDSeg's own properties."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnmedseg.errors import SizeError, UserError
from nnmedseg.networks import create_network
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.condseg import SAD, ChannelAttention, DilConv
from nnmedseg.networks.layers.cbr import CBR
from nnmedseg.networks.layers.contrast_aggregation import CDFA
from nnmedseg.networks.layers.resampling import EnlargedPointwise, enlarge

ENCODERS = pytest.mark.parametrize("encoder", ["resnet50", "pvt_v2_b2"])
BOTH = pytest.mark.parametrize("name", ["condseg", "condseg_stage1"])
NARROW = {"condseg": {"width": 16, "heads": 2}, "condseg_stage1": {"width": 16}}


def narrow(name="condseg", channels=3, classes=1, **options):
    torch.manual_seed(0)
    return create_network(name, channels, classes, **NARROW[name], **options)


def on_meta(name, channels=3, classes=1, **options):
    with torch.device("meta"):
        return create_network(name, channels, classes, **options)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "options", "total", "encoder"),
    [
        ("condseg", {}, 45_552_786, 8_543_296),
        ("condseg", {"encoder": "pvt_v2_b2"}, 45_109_874, 24_849_856),
        ("condseg_stage1", {}, 8_662_848, 8_543_296),
    ],
)
def test_parameters_are_the_published_ones(name, options, total, encoder):
    network = on_meta(name, **options)
    assert (count(network), count(network.encoder)) == (total, encoder)


def test_parameters_of_each_part_with_the_resnet():
    network = on_meta("condseg")
    assert [count(part) for part in network.dil_convs] == [837_218, 1_549_922, 2_500_194, 4_400_738]
    assert count(network.sid) == 15_979_008
    assert count(network.auxiliary_heads) == 3_875_523
    assert [count(part) for part in network.align_foreground] == [
        590_848,
        443_136,
        295_424,
        147_712,
    ]
    assert [count(part) for part in network.cdfas] == [854_920] * 3 + [707_464]
    assert count(network.small) == count(network.middle) == count(network.large) == 347_234
    assert count(network.output_block) == 598_721


def test_parameters_of_each_part_with_the_transformer():
    network = on_meta("condseg", encoder="pvt_v2_b2")
    assert [count(part) for part in network.dil_convs] == [837_218, 1_074_786, 1_787_490, 2_500_194]
    assert count(network.sid) == 4_475_904
    assert count(network.auxiliary_heads) == 1_717_539


@pytest.mark.parametrize(("name", "of_a_class"), [("condseg", 65), ("condseg_stage1", 256)])
def test_a_further_class_grows_the_last_convolution_alone(name, of_a_class):
    assert count(on_meta(name, classes=2)) - count(on_meta(name, classes=1)) == of_a_class


@BOTH
@ENCODERS
def test_a_further_channel_grows_the_first_convolution_alone(name, encoder):
    more, fewer = (on_meta(name, channels, encoder=encoder) for channels in (4, 3))
    assert count(more) - count(fewer) == 3136


@ENCODERS
def test_auxiliary_outputs_have_one_channel_each(encoder):
    network = narrow(classes=4, encoder=encoder).eval()
    with torch.no_grad():
        shapes = [tuple(x.shape) for x in network(torch.zeros(1, 3, 32, 64))]
    assert shapes == [(1, 4, 32, 64)] + [(1, 1, 32, 64)] * len(network.auxiliary_outputs)


def test_auxiliary_outputs_come_in_the_order_of_their_names():
    network = narrow().eval()
    with torch.no_grad():
        for k, name in enumerate(network.auxiliary_outputs):
            network.auxiliary_heads[name].project.weight.zero_()
            network.auxiliary_heads[name].project.bias.fill_(k)
        outputs = network(torch.rand(1, 3, 32, 32))
    assert [x.unique().tolist() for x in outputs[1:]] == [[0], [1], [2]]


def test_without_deep_supervision_the_auxiliary_parts_are_not_computed():
    network = narrow(deep_supervision=False).eval()
    called = []
    for part in (*network.auxiliary_heads.values(), network.sid["uncertainty"]):
        part.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert called == []


@BOTH
def test_with_the_resnet_multiples_of_16_are_taken(name):
    network = narrow(name, deep_supervision=False).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 16, 48)).shape == (1, 1, 16, 48)
    with pytest.raises(SizeError, match="multiples of 16"):
        network(torch.zeros(1, 3, 32, 24))


@BOTH
def test_with_the_transformer_multiples_of_32_are_taken(name):
    network = narrow(name, encoder="pvt_v2_b2", deep_supervision=False).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 96)).shape == (1, 1, 32, 96)
    with pytest.raises(SizeError, match="multiples of 32"):
        network(torch.zeros(1, 3, 48, 48))


def test_a_planned_network_takes_other_sizes():
    network = PlannedNetwork(3, 2, network="condseg", **NARROW["condseg"]).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 40, 23)).shape == (1, 2, 40, 23)


@BOTH
@ENCODERS
def test_training_reaches_every_parameter(name, encoder):
    network = narrow(name, encoder=encoder)
    outputs = network(torch.rand(2, 3, 32, 64))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    sum(x.square().mean() for x in outputs).backward()
    gradients = {key: p.grad for key, p in network.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_bfloat16_stays_near_float32():
    network = narrow(encoder="pvt_v2_b2", deep_supervision=False).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(image)
    assert (found - expected).abs().max() < 0.05 * expected.std() + 0.02


@pytest.mark.slow
@ENCODERS
def test_it_is_exported(encoder):
    network = narrow(encoder=encoder).eval()
    image = torch.rand(2, 3, 32, 64)
    exported = torch.export.export(network, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image))


@BOTH
def test_an_unknown_encoder_is_refused_with_the_known_ones(name):
    with pytest.raises(UserError, match="resnet50, pvt_v2_b2"):
        create_network(name, 3, 1, encoder="resnet18")


@pytest.mark.parametrize("options", [{"width": 40}, {"width": 32, "heads": 3}])
def test_a_width_that_does_not_divide_is_refused(options):
    with pytest.raises(UserError, match="multiple of 16"):
        create_network("condseg", 3, 1, **options)


def test_the_transformer_drops_whole_paths_in_training():
    network = on_meta("condseg", encoder="pvt_v2_b2")
    rates = [m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1)
    assert min(rates) == pytest.approx(0.1 / 15)


def test_channel_attention_is_one_function_of_the_mean_and_of_the_maximum():
    torch.manual_seed(0)
    attention, x = ChannelAttention(32), torch.randn(2, 32, 5, 6)

    def shared(pooled):
        return attention.excite(attention.squeeze(pooled).relu())

    gate = shared(x.mean((2, 3), keepdim=True)) + shared(x.amax((2, 3), keepdim=True))
    torch.testing.assert_close(attention(x), x * gate.sigmoid())


def test_a_dilated_block_reaches_18_pixels_and_one_more():
    torch.manual_seed(0)
    block = DilConv(4, 16).eval()
    for branch in block.branches:
        branch[1] = nn.Identity()
    block.attention = nn.Identity()
    x = torch.randn(1, 4, 1, 60)
    changed = x.clone()
    changed[..., 30] += 1
    with torch.no_grad():
        moved = (block(changed) - block(x)).abs().amax(dim=(0, 1, 2)).nonzero().flatten().tolist()
    assert (min(moved), max(moved)) == (30 - 19, 30 + 19)


def test_sums_of_a_decoder_are_added_again_at_every_step():
    decoder = SAD(16).eval()
    for conv in (decoder.conv1, decoder.conv2, decoder.conv3):
        nn.init.zeros_(conv[0].weight)
    decoder.attention = nn.Identity()
    deep, shallow = torch.rand(1, 16, 2, 2), torch.rand(1, 16, 4, 4)
    first = decoder.fuse(torch.cat([enlarge(deep), shallow], dim=1))
    torch.testing.assert_close(decoder(deep, shallow), 4 * first)


def test_cdfa_mixes_by_the_foreground_first():
    torch.manual_seed(0)
    block = CDFA(16, 16, 2).eval()
    x, foreground, background = torch.randn(3, 1, 16, 4, 4).unbind()
    with torch.no_grad():
        in_order = block(x, foreground, background)
        block.foreground_attention, block.background_attention = (
            block.background_attention,
            block.foreground_attention,
        )
        swapped = block(x, background, foreground)
    assert not torch.allclose(in_order, swapped)


def test_stage1_reduces_maps_as_if_they_were_enlarged_first():
    torch.manual_seed(0)
    block = EnlargedPointwise(*CBR(8, 4, 1), factor=4)
    x = torch.randn(2, 8, 3, 5)
    expected = nn.Sequential(*block)(enlarge(x, 4))
    torch.testing.assert_close(block(x), expected)


def test_networks_without_pretrained_weights_start_with_open_residual_branches():
    network = narrow()
    norms = [block.bn3.weight for block in network.encoder.model.layer3]
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in norms)
