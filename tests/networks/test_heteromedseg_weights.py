"""Checkpoints of HeteroMedSeg's authors, and the ImageNet weights that it starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nnmedseg.errors import WeightsError
from nnmedseg.networks import create_network
from nnmedseg.weights import from_reference, import_reference, load_encoder_weights

from .biformer import biformer_entries

SMALL = json.loads((Path(__file__).parent / "small_options.json").read_text())["heteromedseg"]


def small(channels=3, classes=2, **options):
    torch.manual_seed(0)
    return create_network("heteromedseg", channels, classes, **{**SMALL, **options}).eval()


@pytest.fixture(scope="module")
def state(load_golden):
    """The authors' entries of a reduced network, two input channels and four classes."""
    return load_golden("heteromedseg_small")[1]


@pytest.fixture(scope="module")
def biformer():
    return biformer_entries()


@pytest.fixture
def biformer_file(biformer, tmp_path):
    torch.save({"model": biformer}, tmp_path / "biformer_base_best.pth")
    return tmp_path / "biformer_base_best.pth"


def sixth(channels=3, **options):
    """A network with the widths of the file above and the paper's depths."""
    return small(channels, widths=[16, 32, 64, 128], depths=[2, 2, 2, 2], **options)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"bra_unet.{name}": value for name, value in state.items()},
        lambda state: {f"module.bra_unet.{name}": value for name, value in state.items()},
        lambda state: {"model_state_dict": state},
        lambda state: {name: v for name, v in state.items() if not name.startswith("stages.3.")},
        lambda state: {**state, "total_ops": torch.zeros(1), "up4.total_params": torch.ones(1)},
    ],
    ids=["wrapper", "module", "model_state_dict", "without the unused stage", "thop"],
)
def test_variants_of_a_checkpoint_load_the_same(state, wrap):
    expected = from_reference("heteromedseg", state).state_dict()
    found = from_reference("heteromedseg", wrap(state)).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_no_network_needs_is_reported(state):
    counted = {**state, "stages.3.0.total_ops": torch.zeros(1)}
    ignored = import_reference("heteromedseg", counted).ignored
    assert {what: len(names) for what, names in ignored.items()} == {
        "counters of the profiler thop": 1,
        "the fourth encoder stage, which is never run": 21,
    }


def test_with_the_unused_stage_every_entry_is_loaded(state):
    imported = import_reference("heteromedseg", state, bottleneck=True)
    assert imported.ignored == {}
    assert len(imported.network.state_dict()) == len(state) == 276
    theirs = torch.from_numpy(state["stages.3.0.attn.A_log"])
    assert torch.equal(imported.network.bottleneck[0].mixer.A_log, theirs)


def test_sizes_are_read_from_shapes(state):
    network = from_reference("heteromedseg", state)
    assert (network.input_channels, network.num_classes) == (2, 4)
    read = {name: network.options[name] for name in ("widths", "depths", "decoder_depths")}
    assert read == {
        "widths": [48, 96, 192, 384],
        "depths": [1, 1, 2, 2],
        "decoder_depths": [1, 1, 2],
    }
    assert (network.options["head_dim"], network.options["d_state"]) == (16, 64)


@pytest.mark.parametrize(
    "sizes",
    [{"d_state": 5}, {"expand": 3}, {"mlp_ratio": 2}, {"head_dim": 8}, {"depths": [1, 2, 3, 2]}],
)
def test_other_sizes_are_read_from_shapes(state, sizes):
    network = small(**sizes)
    assert from_reference("heteromedseg", as_theirs(network), scsa_heads=[4, 4, 4]).options == (
        network.options
    )


def as_theirs(network):
    """A network's weights by the authors' names, written down independently of the importer."""
    names = {"stem.": "downsample_layers.0."}
    names |= {f"downsample.{n}.": f"downsample_layers.{n + 1}." for n in range(3)}
    names |= {f"decoder.{n}.blocks.": f"layers_up.{3 - n}.blocks." for n in range(3)}
    names |= {"decoder.2.expand.": "layers_up.0.", "decoder.1.expand.": "layers_up.1.upsample."}
    names |= {"decoder.0.expand.": "layers_up.2.upsample."}
    names |= {f"decoder.{n}.skip.project.": f"concat_back_dim.{3 - n}." for n in range(3)}
    names |= {f"decoder.{n}.skip.scsa.": f"sccsa{n + 1}." for n in range(3)}
    names |= {"encoder.": "stages.", "head.norm.": "norm_up.", "head.expand.": "up4."}
    names |= {"head.project.": "output."}
    inside = {".position1.": ".cpe1.", ".position2.": ".cpe2.", ".position.": ".pos_embed."}
    inside |= {".mixer.conv.": ".attn.conv2d.", ".mixer.": ".attn."}
    inside |= {".attention.local_enhancement.": ".attn.lepe.", ".attention.qkv.": ".attn.qkv.qkv."}
    inside |= {".attention.out_proj.": ".attn.wo.", ".convs.0.": ".local_dwc."}
    inside |= {f".convs.{n}.": f".global_dwc_{size}." for n, size in enumerate("sml", start=1)}
    inside |= {".norm_rows.": ".norm_h.", ".norm_columns.": ".norm_w."}
    inside |= {
        f"sccsa{n}.{part}": f"sccsa{n}.{part[0]}.weight"
        for n in (1, 2, 3)
        for part in ("query", "key", "value")
    }
    theirs = {}
    for name, value in network.state_dict().items():
        start = next(ours for ours in names if name.startswith(ours))
        renamed = names[start] + name.removeprefix(start)
        for ours, other in inside.items():
            renamed = renamed.replace(ours, other)
        first, second = ("fc1", "fc2") if renamed.startswith("stages") else ("0", "3")
        renamed = renamed.replace(".mlp.2.", f".mlp.{second}.").replace(".mlp.0.", f".mlp.{first}.")
        theirs[renamed] = value
    return theirs


def test_a_missing_entry_is_named(state):
    part = {k: v for k, v in state.items() if k != "stages.1.0.attn.A_log"}
    with pytest.raises(WeightsError, match=r"1 missing: encoder\.1\.0\.mixer\.A_log"):
        from_reference("heteromedseg", part)


def test_an_entry_too_many_is_named(state):
    with pytest.raises(WeightsError, match=r"1 left over: layers_up\.1\.extra"):
        from_reference("heteromedseg", {**state, "layers_up.1.extra": torch.zeros(1)})


def test_another_networks_checkpoint_is_refused():
    with pytest.raises(WeightsError, match=r"downsample_layers\.0\.3\.weight"):
        from_reference("heteromedseg", {"conv1.weight": torch.zeros(3, 3)})


def test_pretrained_weights_are_those_with_the_same_names(biformer, biformer_file):
    network = sixth()
    report = load_encoder_weights("heteromedseg", network, biformer_file)
    assert len(report.loaded) == 35 + 24
    assert len(report.ignored) == len(biformer) - 59
    entries = network.state_dict()
    assert torch.equal(entries["stem.3.weight"], biformer["downsample_layers.0.3.weight"])
    assert torch.equal(entries["encoder.2.1.norm2.bias"], biformer["stages.2.1.norm2.bias"])


def test_pretrained_weights_of_the_unused_stage_go_where_it_is_built(biformer_file):
    report = load_encoder_weights("heteromedseg", sixth(bottleneck=True), biformer_file)
    assert len(report.loaded) == 67


def test_pretrained_weights_leave_the_mlps_as_they_are(biformer_file):
    network, untouched = sixth(), sixth()
    load_encoder_weights("heteromedseg", network, biformer_file)
    assert torch.equal(network.encoder[0][0].mlp[0].weight, untouched.encoder[0][0].mlp[0].weight)


def test_with_other_channels_the_first_convolution_is_left_as_it_is(biformer_file):
    network, untouched = sixth(4), sixth(4)
    report = load_encoder_weights("heteromedseg", network, biformer_file)
    assert len(report.loaded) == 58
    assert torch.equal(network.stem[0].weight, untouched.stem[0].weight)


def test_pretrained_weights_of_other_widths_are_refused_and_change_nothing(biformer_file):
    network, untouched = small(), small()
    with pytest.raises(WeightsError, match=r"of another shape: stem\.0\.weight"):
        load_encoder_weights("heteromedseg", network, biformer_file)
    assert torch.equal(network.encoder[0][0].norm1.weight, untouched.encoder[0][0].norm1.weight)


def test_without_a_file_the_message_names_it():
    with pytest.raises(WeightsError, match=r"biformer_base_best\.pth"):
        load_encoder_weights("heteromedseg", small())
