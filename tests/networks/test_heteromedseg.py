"""HeteroMedSeg's own properties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from nnmedseg.errors import SizeError, UserError
from nnmedseg.networks import create_network
from nnmedseg.networks.layers.routing_attention import BRA, cut_regions, join_regions
from nnmedseg.networks.layers.scsa import SCSA
from nnmedseg.networks.layers.vssd import VSSDMixer

SMALL = json.loads((Path(__file__).parent / "small_options.json").read_text())["heteromedseg"]


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def small(channels=3, classes=2, **options):
    torch.manual_seed(0)
    return create_network("heteromedseg", channels, classes, **{**SMALL, **options}).eval()


@pytest.mark.parametrize(
    ("channels", "classes", "total"), [(1, 9, 23_438_334), (3, 1, 23_437_566), (4, 9, 23_438_766)]
)
def test_parameters_are_counted_as_those_the_authors_run(channels, classes, total):
    with torch.device("meta"):
        assert count(create_network("heteromedseg", channels, classes)) == total


def test_parameters_of_each_part_are_the_published_ones():
    with torch.device("meta"):
        network = create_network("heteromedseg", 3, 9)
    coarse_first = list(network.decoder)[::-1]
    assert count(network.stem, network.downsample) == 3_530_880
    assert [count(stage) for stage in network.encoder] == [258_898, 958_756, 3_689_032]
    assert sum(count(stage.skip.scsa) for stage in coarse_first) == 21_504
    assert sum(count(stage.skip.project) for stage in coarse_first) == 387_744
    assert count(coarse_first[0].expand) == 1_180_416
    blocks = [count(stage.blocks) for stage in coarse_first]
    expands = [count(stage.expand) for stage in coarse_first[1:]]
    assert [b + e for b, e in zip(blocks, [*expands, 0], strict=True)] == [
        12_239_232,
        829_632,
        193_536,
    ]
    assert count(network.head) == 192 + 147_648 + 96 * 9


def test_the_unused_stage_is_built_where_it_is_asked_for():
    with torch.device("meta"):
        network = create_network("heteromedseg", 3, 9, bottleneck=True)
    assert count(network.bottleneck) == 14_471_824
    assert count(network) == 37_910_158


def test_rates_of_stochastic_depth_count_the_unused_stage():
    with torch.device("meta"):
        network = create_network("heteromedseg", 3, 9)
    rates = [
        getattr(block.drop_path, "drop_prob", 0) for stage in network.encoder for block in stage
    ]
    assert rates == pytest.approx([k / 35 for k in range(6)])
    rates = [getattr(block.drop_path, "drop_prob", 0) for block in network.decoder[2].blocks]
    assert rates == pytest.approx([k / 35 for k in range(8)])


def test_a_grey_image_is_repeated_to_three_channels():
    grey, colour = small(1), small(3)
    image = torch.randn(1, 1, 64, 32)
    with torch.no_grad():
        expected = colour(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(image), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(colour(image), expected, rtol=1e-4, atol=1e-4)


def test_a_network_for_grey_images_refuses_three_channels():
    with pytest.raises(SizeError, match=r"batch, 1, height, width"):
        small(1)(torch.zeros(1, 3, 32, 32))


def test_two_channels_have_a_stem_of_two():
    assert small(2).stem[0].weight.shape[1] == 2


def test_regions_have_32_pixels_as_at_the_papers_sizes():
    free, fixed = small(topks=[2, 2, 2]), small(topks=[2, 2, 2], n_win=3)
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(free(image), fixed(image), rtol=0, atol=0)


def test_a_fixed_number_of_regions_need_not_divide_the_grid():
    network = small(n_win=5)
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)


def test_both_mixers_have_the_same_weights_and_differ_in_their_logits():
    causal, noncausal = small(), small(mixer="noncausal")
    noncausal.load_state_dict(causal.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(causal(image), noncausal(image), atol=1e-4)


def test_two_images_of_the_smallest_size_give_finite_gradients():
    network = small().train()
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"widths": [32, 64, 128, 192]}, "double"),
        ({"head_dim": 24}, "24 features"),
        ({"scsa_heads": [8, 12, 16]}, "skip connections"),
        ({"topks": [2, 4]}, "3 topks"),
        ({"mixer": "bidirectional"}, "no mixer 'bidirectional'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, what):
    with pytest.raises(UserError, match=what):
        small(**options)


@pytest.mark.parametrize(("form", "groups"), [("noncausal", 2), ("bidirectional", 1)])
def test_a_form_with_another_number_of_groups_is_refused(form, groups):
    with pytest.raises(UserError, match="groups"):
        VSSDMixer(16, 4, form=form, groups=groups)


@pytest.mark.parametrize(
    ("form", "groups", "sees"),
    [
        ("causal", 1, lambda token: token >= 17),
        ("noncausal", 1, lambda token: token >= 0),
        ("bidirectional", 2, lambda token: token >= 0),
    ],
)
def test_a_token_sees_those_that_its_form_lets_it_see(form, groups, sees):
    torch.manual_seed(0)
    mixer = VSSDMixer(8, 4, form=form, groups=groups, d_state=4)
    tokens = torch.randn(1, 40, 16 + 8 * groups)
    changed = tokens.clone()
    changed[:, 17] += 1
    dt = torch.full((1, 40, 4), 0.1)
    with torch.no_grad():
        difference = (mixer._mix(changed, dt) - mixer._mix(tokens, dt)).abs().amax((0, 2))
    assert [bool(d > 0) for d in difference] == [sees(token) for token in range(40)]


def test_steps_of_a_mixer_start_between_a_thousandth_and_a_tenth():
    steps = functional.softplus(VSSDMixer(256, 64).dt_bias)
    assert steps.min() >= 0.001 - 1e-6
    assert steps.max() <= 0.1 + 1e-6


def test_a_noncausal_sum_beyond_half_precision_stays_finite():
    mixer = VSSDMixer(8, 2, form="noncausal", d_state=4).half()
    with torch.no_grad():
        mixer.A_log.fill_(9)
        assert mixer(torch.full((1, 64, 64, 8), 9.0, dtype=torch.half)).isfinite().all()


def test_regions_are_cut_in_row_major_order_and_joined_again():
    grid = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    tokens = cut_regions(grid, (2, 3))
    assert tokens[0, 4, :, 0].tolist() == [14, 15, 20, 21]
    assert torch.equal(join_regions(tokens, (2, 3), grid.shape[1:3]), grid)


def test_attention_to_all_regions_is_ordinary_attention():
    torch.manual_seed(0)
    attention = BRA(16, 2, topk=9).eval()
    x = torch.randn(2, 6, 4, 16)
    with torch.no_grad():
        query, key, value = (
            part.flatten(1, 2).unflatten(-1, (2, 8)).transpose(1, 2)
            for part in attention.qkv(x).chunk(3, dim=-1)
        )
        weights = (query @ key.transpose(2, 3) / 4).softmax(-1)
        attended = (weights @ value).transpose(1, 2).flatten(2).view(x.shape)
        local = attention.local_enhancement(attention.qkv(x)[..., 32:])
        expected = attention.out_proj(attended + local)
        torch.testing.assert_close(attention(x, (3, 2)), expected)


def test_scsa_pools_a_small_map_as_a_whole():
    torch.manual_seed(0)
    module = SCSA(16, 4)
    with torch.no_grad():
        assert module(torch.randn(2, 3, 9, 16)).shape == (2, 3, 9, 16)


def test_it_is_exported_with_the_same_logits():
    network = small()
    image = torch.randn(1, 3, 32, 64)
    exported = torch.export.export(network, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image))
