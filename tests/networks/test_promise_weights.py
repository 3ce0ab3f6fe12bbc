"""Checkpoints of ProMISe and of SAM: loaded strictly or refused with a list."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import WeightsError
from nnmedseg.networks import create_network
from nnmedseg.weights import from_reference, import_reference, load_encoder_weights
from nnmedseg.weights.sam import load_sam, sam_options

NAMES = ["promise_apm", "promise_apm_ips", "promise_ips_gt"]
REDUCED = {
    "image_size": 256,
    "embed_dim": 64,
    "depth": 12,
    "num_heads": 4,
    "window_size": 7,
    "global_attn_indexes": [2, 5, 8, 11],
    "mlp_ratio": 4.0,
    "prompt_embed_dim": 256,
}


@pytest.fixture(scope="module")
def state(load_golden):
    _, state, _ = load_golden("promise_apm_ips")
    return {name: torch.from_numpy(value) for name, value in state.items()}


@pytest.fixture(scope="module")
def sam_state(load_golden):
    _, state, _ = load_golden("sam_tiny")
    return {name: torch.from_numpy(value) for name, value in state.items()}


def same_state(network, other):
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in network.state_dict().items())


def renamed(before, after):
    return lambda state: {
        after + name.removeprefix(before) if name.startswith(before) else name: value
        for name, value in state.items()
    }


def without(*parts):
    return lambda state: {
        name: value for name, value in state.items() if not any(part in name for part in parts)
    }


@pytest.mark.parametrize("name", NAMES)
def test_options_are_read_from_shapes(name, load_golden):
    network = from_reference(name, load_golden(name)[1])
    assert {option: network.options[option] for option in REDUCED} == REDUCED
    assert (network.input_channels, network.num_classes) == (3, 1)
    assert network.options["num_points"] == 16
    assert network.sam_size == 256


@pytest.mark.parametrize(
    "options",
    [
        {
            "embed_dim": 32,
            "depth": 5,
            "window_size": 3,
            "image_size": 96,
            "global_attn_indexes": [2],
        },
        {"embed_dim": 48, "depth": 8, "num_heads": 3, "window_size": 2, "num_points": 6},
        {"embed_dim": 32, "depth": 4, "num_heads": 1, "global_attn_indexes": [1, 3]},
        {"embed_dim": 32, "depth": 4, "num_heads": 2, "window_size": 4, "mlp_ratio": 2.0},
    ],
    ids=["image", "points", "global", "window as large as the image"],
)
def test_other_sizes_are_read_from_shapes(options, state):
    options = {"image_size": 64, "window_size": 2, "num_heads": 2} | options
    ours = create_network("promise_apm_ips", 3, 1, sam_size=options["image_size"], **options)
    network = from_reference("promise_apm_ips", as_reference(ours))
    assert network.options == ours.options
    assert same_state(network, ours)


def as_reference(network):
    """The state dict of a network of ours under the authors' names."""
    names = {"sam.": "", "apm.resnet.": "apm_resnet.", "ips.": "ips_ffn.", ".mlp.fc": ".mlp.lin"}
    names |= {f"apm.fusion.{2 * n - 2}.": f"apm_feature_map.fusion_conv{n}." for n in (1, 2, 3)}
    state = {}
    for name, value in network.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        state[name] = value
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"state_dict": state},
        lambda state: {"epoch": 3, "model": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {k: v.numpy() for k, v in state.items()},
        renamed("ips_ffn.", "ffn."),
        renamed("ips_ffn.", "something.else."),
        renamed("apm_feature_map.", "feature_fusion."),
        renamed("apm_resnet.", "resnet34."),
        renamed("apm_resnet.", "apm_feature_map."),
        renamed("image_encoder.", "sam.image_encoder."),
        lambda state: {f"net.{k}": v for k, v in state.items()},
        without("fc2"),
        without("num_batches_tracked"),
        lambda state: {**state, "apm_resnet.total_ops": torch.zeros(1)},
    ],
    ids=[
        "state_dict",
        "module",
        "arrays",
        "ffn",
        "any shift",
        "any fusion",
        "any resnet",
        "one prefix for two parts",
        "any encoder",
        "prefix for all",
        "without fc2",
        "without counters",
        "thop",
    ],
)
def test_variants_load_the_same(change, state):
    expected = from_reference("promise_apm_ips", state)
    assert same_state(from_reference("promise_apm_ips", change(state)), expected)


def test_the_unused_layer_is_reported(state):
    ignored = import_reference("promise_apm_ips", state).ignored
    assert ignored == {
        "second linear layer, computed and never used": [
            "apm_resnet.fc2.weight",
            "apm_resnet.fc2.bias",
        ]
    }


@pytest.mark.parametrize(
    "name",
    [
        "image_encoder.blocks.3.attn.qkv.bias",
        "prompt_encoder.no_mask_embed.weight",
        "mask_decoder.iou_token.weight",
        "apm_feature_map.fusion_conv1.weight",
        "apm_resnet.layer4.2.shortcut.0.weight",
        "apm_resnet.layer1.0.bn1.running_mean",
        "ips_ffn.lin1.bias",
    ],
)
def test_a_missing_entry_is_refused(name, state):
    with pytest.raises(WeightsError, match="missing"):
        from_reference("promise_apm_ips", without(name)(state))


@pytest.mark.parametrize(
    "name", ["ips_ffn.lin3.weight", "apm_resnet.fc3.weight", "image_encoder.blocks.0.extra", "x"]
)
def test_an_entry_too_many_is_named(name, state):
    with pytest.raises(WeightsError, match=rf"1 left over: {name}"):
        from_reference("promise_apm_ips", {**state, name: torch.zeros(1)})


def test_a_part_that_is_there_twice_is_refused(state):
    twice = {**state, "old.lin1.weight": state["ips_ffn.lin1.weight"]}
    twice["old.lin2.weight"] = state["ips_ffn.lin2.weight"]
    with pytest.raises(WeightsError, match=r"ips_ffn\.lin1\.weight"):
        from_reference("promise_apm_ips", twice)


@pytest.mark.parametrize(
    ("name", "file"), [("promise_apm", "promise_apm_ips"), ("promise_ips_gt", "promise_apm_ips")]
)
def test_a_checkpoint_of_another_mode_is_refused(name, file, load_golden):
    with pytest.raises(WeightsError, match="left over"):
        from_reference(name, load_golden(file)[1])


def test_a_checkpoint_without_the_mode_is_refused(load_golden):
    with pytest.raises(WeightsError, match="missing"):
        from_reference("promise_apm_ips", load_golden("promise_apm")[1])


@pytest.mark.parametrize("name", ["promise_apm", "promise_apm_ips", "promise_ips_gt"])
def test_sam_itself_is_refused_with_what_it_is_for(name, load_golden):
    with pytest.raises(WeightsError, match="load_encoder_weights"):
        from_reference(name, load_golden("sam_tiny")[1])


def test_two_classes_can_be_asked_for(state):
    network = from_reference("promise_apm_ips", state, num_classes=2)
    assert network.num_classes == 2
    assert same_state(network, from_reference("promise_apm_ips", state))


# SAM.


@pytest.fixture
def sam_file(sam_state, tmp_path):
    torch.save(sam_state, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.mark.parametrize("name", NAMES)
def test_sams_file_fills_all_of_sam(name, sam_state, sam_file):
    network = create_network(name, 3, 1, **sam_options(sam_state))
    report = load_encoder_weights(name, network, sam_file)
    assert set(report.loaded) == {k for k in network.state_dict() if k.startswith("sam.")}
    assert report.ignored == []
    filters = sam_state["image_encoder.patch_embed.proj.weight"]
    assert torch.equal(network.sam.image_encoder.patch_embed.proj.weight, filters)


def test_sams_parameters_stay_frozen(sam_state, sam_file):
    network = create_network("promise_ips_gt", 3, 1, **sam_options(sam_state))
    load_encoder_weights("promise_ips_gt", network, sam_file)
    assert not any(p.requires_grad for p in network.sam.parameters())


def test_a_sam_of_another_size_is_refused_with_the_right_options(sam_state, sam_file):
    options = sam_options(sam_state) | {"depth": 5}
    network = create_network("promise_ips_gt", 3, 1, **options)
    with pytest.raises(WeightsError, match="depth=4, num_heads=4, window_size=7"):
        load_encoder_weights("promise_ips_gt", network, sam_file)


def test_a_refused_file_leaves_the_network_as_it_was(sam_state):
    network = create_network("promise_ips_gt", 3, 1, **sam_options(sam_state))
    before = {name: value.clone() for name, value in network.sam.state_dict().items()}
    with pytest.raises(WeightsError, match=r"1 missing: mask_decoder\.iou_token\.weight"):
        load_sam(network.sam, without("iou_token")(sam_state))
    assert all(torch.equal(v, before[k]) for k, v in network.sam.state_dict().items())


def test_a_file_that_is_no_sam_names_the_official_ones(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    network = create_network("promise_ips_gt", 3, 1, **REDUCED)
    with pytest.raises(WeightsError, match=r"sam_vit_b_01ec64\.pth"):
        load_encoder_weights("promise_ips_gt", network, tmp_path / "other.pth")


def test_a_download_of_a_sam_that_nobody_published_says_so():
    network = create_network("promise_ips_gt", 3, 1, **REDUCED)
    with pytest.raises(WeightsError, match="no official SAM of width 64"):
        load_encoder_weights("promise_ips_gt", network)
