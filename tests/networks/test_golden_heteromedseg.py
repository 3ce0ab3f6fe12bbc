"""HeteroMedSeg computes what the authors' code computes, with the tolerances of the fixtures."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.losses import create_loss
from nnmedseg.losses.heteromedseg import cross_entropy, dice_by_class, soft_iou
from nnmedseg.networks.layers.patch_expand import PatchExpand
from nnmedseg.networks.layers.routing_attention import BRA, BRABlock, cut_regions, pad_to_regions
from nnmedseg.networks.layers.scsa import SCSA
from nnmedseg.networks.layers.vssd import VSSDBlock
from nnmedseg.weights import from_reference
from nnmedseg.weights.heteromedseg import IMPORTER

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = {
    "heteromedseg": {},
    "heteromedseg_small": {"topks": (2, 3, 5)},
    "heteromedseg_noncausal": {"topks": (2, 3, 5), "mixer": "noncausal"},
}
PLACES = {  # where the authors' whole network has such a module
    VSSDBlock: "stages.0.0.",
    BRABlock: "layers_up.3.blocks.0.",
    BRA: "layers_up.3.blocks.0.attn.",
    SCSA: "sccsa1.",
    PatchExpand: "layers_up.2.upsample.",
}
FORMS = ["causal", "noncausal", "bidirectional"]


def assert_golden(actual, expected, meta):
    torch.testing.assert_close(actual, expected, rtol=meta["rtol"], atol=meta["atol"])


def as_stored(output):
    """What a fixture keeps of a module's output."""
    values = output.flatten()
    return torch.cat([values[:32], values.mean()[None], values.std(correction=0)[None]])


def watch(network):
    """A dictionary that the network's modules write their outputs to, by name."""
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    return seen


def our_output(theirs, seen):
    """The output of one of the authors' modules, laid out as theirs."""
    theirs = theirs.removeprefix("bra_unet.")
    if theirs == "output":
        return seen[""]
    if theirs == "up4":
        return PatchExpand.arrange(seen["head.expand.norm"])
    if theirs in ("layers_up.1", "layers_up.2"):  # the authors' stages end in the next one's expand
        theirs += ".upsample"
    name = "decoder.0" if theirs == "layers_up.3" else IMPORTER.our_name(theirs + ".").rstrip(".")
    output = seen[name]
    is_map = name.endswith((".scsa", "position1"))
    return output.permute(0, 3, 1, 2) if is_map else output


def load(module, state, prefix):
    """The module in ``eval()`` with the entries that have the prefix, by the importer's rules."""
    start = PLACES[type(module)]
    inside = IMPORTER.our_name(start)
    entries = {
        IMPORTER.our_name(start + name.removeprefix(prefix)).removeprefix(inside): array
        for name, array in state.items()
        if name.startswith(prefix)
    }
    module.load_state_dict({name: torch.from_numpy(array) for name, array in entries.items()})
    return module.eval()


@pytest.fixture(scope="module", params=OPTIONS)
def whole(request, load_golden):
    """A fixture of the whole network, and the outputs of all our modules for its image."""
    meta, state, arrays = load_golden(request.param)
    network = from_reference("heteromedseg", state, **OPTIONS[request.param])
    seen = watch(network)
    with torch.no_grad():
        network(arrays["input"])
    return meta, arrays, seen


def test_logits(whole):
    meta, arrays, seen = whole
    assert_golden(seen[""], arrays["output_0"], meta)


def test_every_module(whole):
    meta, arrays, seen = whole
    stored = {name.removeprefix("mid/"): a for name, a in arrays.items() if "mid/" in name}
    assert len(stored) > 30
    for name, expected in stored.items():
        assert_golden(as_stored(our_output(name, seen)), expected, meta)


@pytest.mark.parametrize("form", FORMS)
def test_vssd_block(load_golden, form):
    meta, state, arrays = load_golden("vssd_block")
    groups = 2 if form == "bidirectional" else 1
    block = load(VSSDBlock(48, 4, form=form, groups=groups), state, f"{form}.")
    seen = watch(block)
    with torch.no_grad():
        out = block(arrays["input"].unflatten(1, (12, 26)))
    assert_golden(out.flatten(1, 2), arrays[f"output_{FORMS.index(form)}"], meta)
    ours = {"cpe1": "position1", "cpe2": "position2", "attn.conv2d": "mixer.conv"}
    ours |= {"attn": "mixer", "attn.norm": "mixer.norm", "attn.out_proj": "mixer.out_proj"}
    for theirs in ("cpe1", "norm1", *ours, "norm2", "mlp"):
        output = seen[ours.get(theirs, theirs)]
        if theirs in ("cpe1", "cpe2", "attn.conv2d"):
            output = output.permute(0, 3, 1, 2)
        assert_golden(as_stored(output), arrays[f"mid/{form}.{theirs}"], meta)


@pytest.mark.parametrize(
    ("k", "prefix", "image"), [(0, "attn.", "input"), (1, "pad.", "input_pad")]
)
def test_routing_attention(load_golden, k, prefix, image):
    meta, state, arrays = load_golden("bra_attention")
    attention = load(BRA(48, 3, 3), state, prefix)
    with torch.no_grad():
        assert_golden(attention(arrays[image], (4, 4)), arrays[f"output_{k}"], meta)


@pytest.mark.parametrize(
    ("k", "prefix", "image"), [(0, "attn.", "input"), (1, "pad.", "input_pad")]
)
def test_chosen_regions(load_golden, k, prefix, image):
    _, state, arrays = load_golden("bra_attention")
    attention = load(BRA(48, 3, 3), state, prefix)
    chosen = attention.choose(cut_regions(pad_to_regions(arrays[image], (4, 4)), (4, 4)))
    assert torch.equal(chosen.sort().values, arrays[f"extra/route_{k}"].long())


def test_decoder_block(load_golden):
    meta, state, arrays = load_golden("bra_attention")
    block = load(BRABlock(48, 3, 3), state, "block.")
    seen = watch(block)
    with torch.no_grad():
        out = block(arrays["input_block"].unflatten(1, (12, 20)), (4, 4))
    assert_golden(out.flatten(1, 2), arrays["output_2"], meta)
    outputs = {
        "pos_embed": seen["position"].permute(0, 3, 1, 2),
        "attn.lepe": seen["attention.local_enhancement"].permute(0, 3, 1, 2),
        "attn.wo": seen["attention.out_proj"],
        "attn": seen["attention"],
        "norm2": seen["norm2"],
        "mlp": seen["mlp"],
    }
    for name, output in outputs.items():
        assert_golden(as_stored(output), arrays[f"mid/block.{name}"], meta)


@pytest.mark.parametrize(
    ("k", "prefix", "image", "sizes"), [(0, "a.", "input", (64, 8)), (1, "b.", "input_b", (96, 12))]
)
def test_scsa(load_golden, k, prefix, image, sizes):
    meta, state, arrays = load_golden("scsa")
    module = load(SCSA(*sizes), state, prefix)
    seen = watch(module)
    with torch.no_grad():
        out = module(arrays[image].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert_golden(out, arrays[f"output_{k}"], meta)
    for theirs, ours in {"norm_h": "norm_rows", "norm_w": "norm_columns", "norm": "norm"}.items():
        assert_golden(as_stored(seen[ours]), arrays[f"mid/{prefix}{theirs}"], meta)


@pytest.mark.parametrize(
    ("k", "prefix", "sizes"),
    [(0, "tokens.", (48, 24, 2)), (1, "bottleneck.", (48, 24, 2)), (2, "final.", (48, 48, 4))],
)
def test_patch_expand(load_golden, k, prefix, sizes):
    meta, state, arrays = load_golden("patch_expand")
    module = load(PatchExpand(*sizes), state, prefix)
    with torch.no_grad():
        out = module(arrays["input"].unflatten(1, (5, 7)))
    assert_golden(out.flatten(1, 2), arrays[f"output_{k}"], meta)


def test_loss_of_several_classes_and_its_gradient(load_golden):
    meta, _, arrays = load_golden("heteromedseg_losses")
    logits = arrays["input"].requires_grad_()
    loss = create_loss("heteromedseg")(logits, arrays["input_label"])
    assert_golden(loss, arrays["output_2"], meta)
    loss.backward()
    assert_golden(logits.grad, arrays["output_4"], meta)


def test_terms_of_the_loss_of_several_classes(load_golden):
    meta, _, arrays = load_golden("heteromedseg_losses")
    logits, label = arrays["input"], arrays["input_label"]
    assert_golden(cross_entropy(logits, label), arrays["output_0"], meta)
    assert_golden(dice_by_class(logits, label), arrays["output_3"], meta)
    assert_golden(dice_by_class(logits, label).mean(), arrays["output_1"], meta)


def test_loss_of_one_logit_and_its_gradient(load_golden):
    meta, _, arrays = load_golden("heteromedseg_losses")
    logits = arrays["input_binary"].requires_grad_()
    loss = create_loss("heteromedseg")(logits, arrays["input_binary_mask"])
    assert_golden(loss, arrays["output_5"], meta)
    loss.backward()
    assert_golden(logits.grad, arrays["output_6"], meta)


def test_soft_iou(load_golden):
    meta, _, arrays = load_golden("heteromedseg_losses")
    iou = soft_iou(arrays["input_binary"], arrays["input_binary_mask"])
    assert_golden(iou, arrays["output_7"], meta)
