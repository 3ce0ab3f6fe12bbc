"""ConDSeg computes what the authors' code computes, with the tolerances of the fixtures."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from nnmedseg.losses import create_loss
from nnmedseg.losses.condseg import area_weight, complementary, consistency, dice_bce
from nnmedseg.losses.pooled import dice_over_batch
from nnmedseg.weights import from_reference
from nnmedseg.weights.condseg import IMPORTER

STAGE2 = ("condseg_r50", "condseg_r50_scaled", "condseg_pvt", "condseg_pvt_scaled")
STAGE1 = ("condseg_r50_stage1",)

MODULES = {"layer0": "encoder.model.act1", "layer1": "encoder.model.layer1"}
"""The authors' modules that ours are not renamed from; the others are."""
WITHOUT_MODULE = ("aux_head.branch_fg.1", "up_")
TOKENS = ("v", "attn_fg", "attn_bg", "proj#1", "proj#2")
"""Modules of CDFA whose output the authors lay out with the channels last."""
SCALED_LATER = {"attn_fg": math.sqrt(32), "attn_bg": math.sqrt(32)}


def our_module(name):
    name = name.partition("#")[0]
    if name in MODULES:
        return MODULES[name]
    if name.startswith("aux_head"):
        return IMPORTER.our_name(f"{name}.conv.0.weight").removesuffix(".0.weight")
    return IMPORTER.our_name(f"{name}.").removesuffix(".")


def record(network, names):
    """Hook the modules; what they return is in the lists of the answer, by our names."""
    outputs = defaultdict(list)
    for name in set(names):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: outputs[name].append(output.clone())
        )
    return outputs


def summary(output):
    output = output.flatten()
    return torch.cat([output[:32], output.mean()[None], output.std(correction=0)[None]])


class Run:
    """A fixture, our network's outputs for it and what passed through its modules."""

    def __init__(self, name, meta, state, arrays):
        network = from_reference("condseg_stage1" if name in STAGE1 else "condseg", state)
        self.meta, self.arrays = meta, arrays
        self.mids = [
            key.removeprefix("mid/")
            for key in arrays
            if key.startswith("mid/") and not key[4:].startswith(WITHOUT_MODULE)
        ]
        self.modules = record(network, map(our_module, self.mids))
        with torch.no_grad():
            outputs = network(arrays["input"])
        self.logits = outputs if isinstance(outputs, list) else [outputs]
        self.parameters = sum(p.numel() for p in network.parameters())

    def mid(self, name):
        call = int(name.partition("#")[2] or 1) - 1
        output = self.modules[our_module(name)][call]
        leaf = name.rpartition(".")[2]
        if leaf in TOKENS:
            output = output.permute(0, 2, 3, 1)
        return summary(output * SCALED_LATER.get(leaf, 1))


@pytest.fixture(scope="module", params=STAGE2 + STAGE1)
def run(request, load_golden):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Run(request.param, *load_golden(request.param))
    torch.set_num_threads(threads)


def test_logits(run):
    count = len(run.logits)
    for k, logits in enumerate(run.logits):
        rtol, atol = run.meta["tolerance"][k + count]
        expected = run.arrays[f"output_{k + count}"]
        torch.testing.assert_close(logits, expected, rtol=rtol, atol=atol)


def test_probabilities(run):
    assert len(run.meta["tolerance"]) == 2 * len(run.logits)
    for k, logits in enumerate(run.logits):
        rtol, atol = run.meta["tolerance"][k]
        torch.testing.assert_close(
            logits.sigmoid(), run.arrays[f"output_{k}"], rtol=rtol, atol=atol
        )


def test_what_passes_through_the_modules(run):
    assert len(run.mids) > 7
    for name in run.mids:
        expected = run.arrays[f"mid/{name}"]
        atol = 1e-4 * expected[-1].item()
        torch.testing.assert_close(
            run.mid(name),
            expected,
            rtol=0,
            atol=atol,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_number_of_parameters(run):
    assert run.parameters == run.meta["parameters"]


class Losses:
    """The fixture of the losses, its probabilities as logits in float64 that carry gradients."""

    def __init__(self, meta, arrays):
        self.outputs = {
            name: arrays[f"output_{k}"].double() for k, name in enumerate(meta["outputs"])
        }
        self.meta = meta
        self.inputs = {
            key.removeprefix("input_"): value.double()
            for key, value in arrays.items()
            if key.startswith("input_")
        }
        self.probabilities = {
            key: value.requires_grad_() for key, value in self.inputs.items() if "pred" in key
        }
        self.logits = {key: value.logit() for key, value in self.probabilities.items()}

    def check(self, actual, name):
        expected = self.outputs[name]
        torch.testing.assert_close(actual, expected, rtol=self.meta["rtol"], atol=self.meta["atol"])

    def check_gradients(self, total, names, prefix):
        gradients = torch.autograd.grad(total, [self.probabilities[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            self.check(gradient, f"{prefix}.grad_total_wrt_{name}")


@pytest.fixture
def losses(load_golden):
    meta, _, arrays = load_golden("condseg_losses")
    return Losses(meta, arrays)


FORMS = pytest.mark.parametrize(("form", "name"), [("released", "released"), ("corrected", "once")])


@FORMS
@pytest.mark.parametrize(
    "case",
    [
        ("stage1.{}.dice_bce_original", "stage1_pred", "target_mask"),
        ("stage1.{}.dice_bce_augmented", "stage1_pred_aug", "target_mask"),
        ("stage2.{}.dice_bce_mask", "pred_mask", "target_mask"),
        ("stage2.{}.dice_bce_fg", "pred_fg", "target_mask"),
        ("stage2.{}.dice_bce_bg", "pred_bg", "target_bg"),
    ],
)
def test_dice_and_cross_entropy(losses, form, name, case):
    term, logits, target = case
    value = dice_bce(losses.logits[logits], losses.inputs[target], form)
    losses.check(value, term.format(name))


def test_dice_alone(losses):
    mask, target = losses.logits["pred_mask"], losses.inputs["target_mask"]
    losses.check(dice_over_batch(mask, target), "once.dice_only_mask")
    losses.check(dice_over_batch(mask.sigmoid(), target), "released.dice_only_mask")


def test_consistency(losses):
    value = consistency(losses.logits["stage1_pred"], losses.logits["stage1_pred_aug"])
    losses.check(value, "stage1.consistency")


def test_weights_by_area(losses):
    losses.check(area_weight(losses.logits["pred_fg"]), "stage2.beta_fg")
    losses.check(area_weight(losses.logits["pred_bg"]), "stage2.beta_bg")


def test_complementary(losses):
    value = complementary(*(losses.logits[f"pred_{kind}"] for kind in ("fg", "bg", "uc")))
    losses.check(value, "stage2.complementary")


@FORMS
def test_stage1_and_its_gradients(losses, form, name):
    views = ["stage1_pred", "stage1_pred_aug"]
    outputs = [losses.logits[view] for view in views]
    total = create_loss("condseg_stage1", form=form)(outputs, losses.inputs["target_mask"])
    losses.check(total, f"stage1.{name}.total")
    losses.check_gradients(total, views, f"stage1.{name}")


@FORMS
def test_stage2_and_its_gradients(losses, form, name):
    names = [f"pred_{kind}" for kind in ("mask", "fg", "bg", "uc")]
    total = create_loss("condseg", form=form)(
        [losses.logits[name] for name in names],
        losses.inputs["target_mask"],
        losses.inputs["target_bg"],
    )
    losses.check(total, f"stage2.{name}.total")
    losses.check_gradients(total, names, f"stage2.{name}")
