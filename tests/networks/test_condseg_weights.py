"""Checkpoints of ConDSeg's authors, the step between its stages, and its ImageNet weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nnmedseg.errors import WeightsError
from nnmedseg.networks import create_network
from nnmedseg.weights import (
    encoder_from_stage1,
    from_reference,
    import_reference,
    load_encoder_weights,
    to_two_classes,
)
from nnmedseg.weights.condseg import IMPORTER

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FIXTURES = {
    ("condseg", "resnet50"): "condseg_r50",
    ("condseg", "pvt_v2_b2"): "condseg_pvt",
    ("condseg_stage1", "resnet50"): "condseg_r50_stage1",
}
NARROW = {"condseg": {"width": 32, "heads": 2}, "condseg_stage1": {"width": 8}}
FIRST = {"resnet50": "layer0.0.weight", "pvt_v2_b2": "backbone.patch_embed1.proj.weight"}
ENCODERS = pytest.mark.parametrize("encoder", ["resnet50", "pvt_v2_b2"])
KINDS = pytest.mark.parametrize(("name", "encoder"), FIXTURES)


def narrow(name="condseg", encoder="resnet50", channels=3, classes=1):
    torch.manual_seed(0)
    network = create_network(name, channels, classes, encoder=encoder, **NARROW[name])
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.num_batches_tracked.fill_(7)
    return network.eval()


def their_names(name, encoder):
    """The authors' entries; for the transformer's first stage, which they lack, our guess."""
    if (name, encoder) == ("condseg_stage1", "pvt_v2_b2"):
        backbone = [n for n in their_names("condseg", encoder) if n.startswith("backbone.")]
        return backbone + [n for n in their_names(name, "resnet50") if n.startswith("head.")]
    with np.load(GOLDEN / f"{FIXTURES[name, encoder]}.npz") as archive:
        return [entry for entry, _ in json.loads(str(archive["meta"]))["state"]]


def as_theirs(network, name="condseg"):
    names = their_names(name, network.options["encoder"])
    state = network.state_dict()
    return {entry: state[IMPORTER.our_name(entry)].clone() for entry in names}


def encoder_of(network):
    return {k: v for k, v in network.state_dict().items() if k.startswith("encoder.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def theirs():
    return as_theirs(narrow())


@pytest.mark.parametrize("name", ["condseg", "condseg_stage1"])
@ENCODERS
def test_encoder_sizes_and_every_entry_are_read(name, encoder):
    network = narrow(name, encoder, channels=2, classes=5)
    found = from_reference(name, as_theirs(network, name))
    assert (found.input_channels, found.num_classes) == (2, 5)
    assert found.options == network.options
    assert same(found.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model_state_dict": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {name: value.numpy() for name, value in state.items()},
        lambda state: {**state, "dconv1.total_ops": torch.zeros(1)},
    ],
    ids=["model_state_dict", "module", "numpy", "thop"],
)
def test_variants_of_a_checkpoint_load_the_same(theirs, wrap):
    expected = from_reference("condseg", theirs).state_dict()
    assert same(from_reference("condseg", wrap(theirs)).state_dict(), expected)


def test_nothing_of_a_plain_checkpoint_is_ignored(theirs):
    assert import_reference("condseg", theirs).ignored == {}


@pytest.mark.parametrize("entry", ["layer1.1.0.bn1.num_batches_tracked", "cdfa3.proj.bias"])
def test_a_missing_entry_is_refused(theirs, entry):
    with pytest.raises(WeightsError, match="1 missing"):
        from_reference("condseg", {k: v for k, v in theirs.items() if k != entry})


def test_a_left_over_entry_is_refused(theirs):
    with pytest.raises(WeightsError, match=r"1 left over: layer4\.0\.conv1\.weight"):
        from_reference("condseg", {**theirs, "layer4.0.conv1.weight": torch.zeros(1)})


def test_a_checkpoint_without_encoder_is_refused(theirs):
    headless = {k: v for k, v in theirs.items() if not k.startswith("layer")}
    with pytest.raises(WeightsError, match=r"layer0\.0\.weight"):
        from_reference("condseg", headless)


def test_a_checkpoint_of_the_other_stage_is_refused_with_its_name(theirs):
    with pytest.raises(WeightsError, match="import it as 'condseg'"):
        from_reference("condseg_stage1", theirs)
    with pytest.raises(WeightsError, match="'condseg_stage1'"):
        from_reference("condseg", as_theirs(narrow("condseg_stage1"), "condseg_stage1"))


@KINDS
def test_reversed_channels_give_the_same_logits_for_a_reversed_image(name, encoder):
    state = as_theirs(narrow(name, encoder), name)
    image = torch.rand(1, 3, 32, 32)
    as_is = from_reference(name, state)
    turned = from_reference(name, state, reverse_channels=True)
    as_is.deep_supervision = turned.deep_supervision = False
    with torch.no_grad():
        assert not torch.allclose(turned(image), as_is(image))
        torch.testing.assert_close(turned(image.flip(1)), as_is(image))


def test_reversing_leaves_the_given_checkpoint_as_it_is(theirs):
    before = theirs[FIRST["resnet50"]].clone()
    from_reference("condseg", theirs, reverse_channels=True)
    assert torch.equal(theirs[FIRST["resnet50"]], before)


def test_two_classes_keep_the_probabilities_and_the_auxiliary_outputs():
    one = narrow()
    two, image = to_two_classes(one), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        (mask, *auxiliary), (masks, *auxiliaries) = one(image), two(image)
    torch.testing.assert_close(masks.softmax(1)[:, 1:], mask.sigmoid())
    assert all(torch.equal(a, b) for a, b in zip(auxiliary, auxiliaries, strict=True))


@ENCODERS
@pytest.mark.parametrize("give", [lambda n: n, lambda n: n.state_dict()], ids=["network", "state"])
def test_the_first_stage_hands_on_its_whole_encoder(encoder, give):
    stage1 = narrow("condseg_stage1", encoder)
    network = create_network("condseg", 3, 1, encoder=encoder, **NARROW["condseg"])
    report = encoder_from_stage1(give(stage1), network)
    assert same(encoder_of(network), encoder_of(stage1))
    assert sorted(report.loaded) == sorted(encoder_of(stage1))
    assert "project.weight" in report.ignored


def test_the_first_stages_encoder_has_258_entries_in_the_authors_checkpoint():
    stage1 = narrow("condseg_stage1")
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    report = encoder_from_stage1(as_theirs(stage1, "condseg_stage1"), network)
    assert len(report.loaded) == 258
    assert same(encoder_of(network), encoder_of(stage1))


@pytest.mark.parametrize(
    "give", [lambda n: n, lambda n: as_theirs(n, "condseg_stage1")], ids=["ours", "theirs"]
)
def test_the_first_stages_channels_can_be_reversed(give):
    stage1 = narrow("condseg_stage1")
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    encoder_from_stage1(give(stage1), network, reverse_channels=True)
    first = network.encoder.model.conv1.weight
    assert torch.equal(first, stage1.encoder.model.conv1.weight.flip(1))


@pytest.mark.parametrize("entry", ["layer0.1.running_var", "layer3.5.bn3.num_batches_tracked"])
def test_a_missing_entry_of_the_first_stage_is_refused(entry):
    given = as_theirs(narrow("condseg_stage1"), "condseg_stage1")
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    del given[entry]
    with pytest.raises(WeightsError, match="1 missing"):
        encoder_from_stage1(given, network)
    assert same(network.state_dict(), before)


def test_the_first_stage_of_another_encoder_is_refused():
    network = create_network("condseg", 3, 1, encoder="pvt_v2_b2", **NARROW["condseg"])
    with pytest.raises(WeightsError, match="pvt_v2_b2"):
        encoder_from_stage1(narrow("condseg_stage1"), network)


def torchvisions(network):
    """An ImageNet file of ResNet-50 as torchvision and timm name it."""
    state = {k.removeprefix("encoder.model."): v for k, v in encoder_of(network).items()}
    return {**state, "layer4.0.conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1000)}


def pvts(network):
    """An ImageNet file as PVT's authors name it, which is how ConDSeg's do below ``backbone.``."""
    state = {
        name.removeprefix("backbone."): value
        for name, value in as_theirs(network).items()
        if name.startswith("backbone.")
    }
    return {**state, "head.weight": torch.zeros(1000, 512), "head.bias": torch.zeros(1000)}


def timms(network):
    """An ImageNet file of PVT as timm names it."""
    state = {
        name.removeprefix("encoder.model.").replace("stages_", "stages."): value
        for name, value in encoder_of(network).items()
    }
    return {**state, "head.weight": torch.zeros(1000, 512)}


PRETRAINED = pytest.mark.parametrize(
    ("encoder", "named", "ignored"),
    [
        ("resnet50", torchvisions, ["layer4.0.conv1.weight", "fc.bias"]),
        ("pvt_v2_b2", pvts, ["head.weight", "head.bias"]),
        ("pvt_v2_b2", timms, ["head.weight"]),
    ],
)


@PRETRAINED
def test_imagenet_weights_fill_the_encoder_and_nothing_else(tmp_path, encoder, named, ignored):
    source = narrow(encoder=encoder)
    torch.save(named(source), tmp_path / "imagenet.pth")
    network = create_network("condseg", 3, 2, encoder=encoder, **NARROW["condseg"])
    head = network.output_block.project.weight.clone()
    report = load_encoder_weights("condseg", network, tmp_path / "imagenet.pth")
    assert same(encoder_of(network), encoder_of(source))
    assert torch.equal(network.output_block.project.weight, head)
    assert (report.ignored, len(report.loaded)) == (ignored, len(encoder_of(source)))


def load(network, state, tmp_path, name="condseg"):
    torch.save(state, tmp_path / "imagenet.pth")
    return load_encoder_weights(name, network, tmp_path / "imagenet.pth")


def test_the_first_stage_starts_from_imagenet_too(tmp_path):
    source = narrow()
    network = create_network("condseg_stage1", 3, 1, **NARROW["condseg_stage1"])
    load(network, torchvisions(source), tmp_path, "condseg_stage1")
    assert same(encoder_of(network), encoder_of(source))


def test_torchvisions_oldest_file_has_no_counters(tmp_path):
    state = {k: v for k, v in torchvisions(narrow()).items() if "num_batches" not in k}
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    load(network, state, tmp_path)
    assert torch.equal(network.encoder.model.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, lambda w: w.sum(1, keepdim=True)),
        (2, lambda w: w[:, :2] * 1.5),
        (3, lambda w: w),
        (5, lambda w: w[:, [0, 1, 2, 0, 1]] * 0.6),
    ],
)
@PRETRAINED
def test_imagenet_weights_fit_other_channels(  # noqa: PLR0917
    tmp_path, encoder, named, ignored, channels, expected
):
    source = narrow(encoder=encoder)
    network = create_network("condseg", channels, 1, encoder=encoder, **NARROW["condseg"])
    load(network, named(source), tmp_path)
    first = IMPORTER.our_name(FIRST[encoder])
    torch.testing.assert_close(network.state_dict()[first], expected(source.state_dict()[first]))


def test_imagenet_weights_with_a_hole_are_refused(tmp_path):
    state = torchvisions(narrow())
    del state["layer2.3.conv2.weight"]
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    with pytest.raises(WeightsError, match=r"1 missing: encoder\.model\.layer2\.3\.conv2\.weight"):
        load(network, state, tmp_path)


def test_imagenet_weights_of_the_other_encoder_are_refused(tmp_path):
    network = create_network("condseg", 3, 1, **NARROW["condseg"])
    with pytest.raises(WeightsError, match="resnet50"):
        load(network, pvts(narrow(encoder="pvt_v2_b2")), tmp_path)


@ENCODERS
def test_a_failed_download_names_the_file(encoder, monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("no connection")

    network = create_network("condseg", 3, 1, encoder=encoder, **NARROW["condseg"])
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=rf"{encoder}\.\w*in1k"):
        load_encoder_weights("condseg", network)


@ENCODERS
def test_what_is_downloaded_are_the_papers_weights(encoder, monkeypatch):
    import timm

    asked = {}
    create_model = timm.create_model

    def without_connection(name, *, pretrained):
        asked[name] = pretrained
        return create_model(name.partition(".")[0], pretrained=False)

    network = create_network("condseg", 3, 1, encoder=encoder, **NARROW["condseg"])
    monkeypatch.setattr(timm, "create_model", without_connection)
    load_encoder_weights("condseg", network)
    assert asked == {{"resnet50": "resnet50.tv_in1k", "pvt_v2_b2": "pvt_v2_b2.in1k"}[encoder]: True}
