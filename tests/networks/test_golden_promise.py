"""ProMISe computes what the authors' code computes, with the tolerances of the fixtures."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from nnmedseg.losses import create_loss
from nnmedseg.losses.pooled import binary_cross_entropy
from nnmedseg.losses.promise import clamped_dice, dice_scores, reduced_target
from nnmedseg.weights import from_reference

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = ["promise_apm", "promise_apm_ips", "promise_ips_gt"]
RENAMES = [
    (r"^(image_encoder|prompt_encoder|mask_decoder)", r"sam.\1"),
    (r"^apm_feature_map", "apm.fusion"),
    (r"^apm_resnet\.fc$", "apm.resnet"),
    (r"^apm_resnet", "apm.resnet"),
    (r"^ips_ffn", "ips.lin2"),
]
TRAIN_GRADIENTS = [
    "ips.lin1.bias",
    "ips.lin2.bias",
    "apm.resnet.fc.weight",
    "apm.resnet.fc.bias",
    "apm.resnet.bn1.weight",
    "apm.fusion.4.bias",
]


def assert_golden(actual, expected, meta):
    torch.testing.assert_close(actual, expected, rtol=meta["rtol"], atol=meta["atol"])


def digest(output):
    values = output.reshape(-1)
    first = torch.zeros(32)
    first[: min(32, len(values))] = values[:32]
    return torch.cat([first, values.mean()[None], values.std(unbiased=False)[None]])


def record(network, arrays):
    """Store each module's output whose digest the fixture holds, under the fixture's name."""
    outputs = {}
    for key in (key for key in arrays if key.startswith("mid/")):
        name, element = re.fullmatch(r"mid/(.*?)(?:\[(\d)\])?", key).groups()
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)

        def hook(module, inputs, output, key=key, element=element):
            outputs[key] = output if element is None else output[int(element)]

        network.get_submodule(name).register_forward_hook(hook)
    return outputs


def predict(name, fixture):
    meta, state, arrays = fixture
    network = from_reference(name, state)
    middle = record(network, arrays)
    prompts = [arrays["input_points"], arrays["input_labels"]] if "input_points" in arrays else []
    with torch.no_grad():
        return network.predict_masks(arrays["input"], *prompts), middle, meta, arrays


def assert_outputs(masks, meta, arrays):
    assert_golden(masks.logits.sigmoid(), arrays["output_0"], meta)
    assert_golden(masks.iou, arrays["output_1"], meta)
    assert_golden(masks.points, arrays["output_2"], meta)
    assert_golden(masks.logits, arrays["output_3"], meta)
    assert_golden(masks.sparse, arrays["output_4"], meta)
    assert masks.labels.tolist() == arrays["input_labels"].tolist()


def assert_middle(middle, arrays):
    expected = {key: value for key, value in arrays.items() if key.startswith("mid/")}
    assert middle.keys() == expected.keys()
    batch, grid = arrays["input"].shape[0], arrays["input"].shape[2] // 16
    dense = middle["mid/prompt_encoder[1]"]
    middle["mid/prompt_encoder[1]"] = dense.expand(batch, -1, grid, grid)  # ours is broadcast later
    for key, value in middle.items():
        torch.testing.assert_close(
            digest(value), expected[key], rtol=1e-5, atol=3e-5, msg=lambda text, key=key: key + text
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_points_and_embeddings(name, load_golden):
    masks, _, meta, arrays = predict(name, load_golden(name))
    assert_outputs(masks, meta, arrays)


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_on_the_way(name, load_golden):
    _, middle, _, arrays = predict(name, load_golden(name))
    assert_middle(middle, arrays)


@pytest.mark.slow
def test_the_papers_own_setting(load_golden):
    fixture = load_golden("promise_apm_ips_vitb1024")
    masks, middle, meta, arrays = predict("promise_apm_ips", fixture)
    assert_outputs(masks, meta, arrays)
    assert_middle(middle, arrays)


@pytest.mark.parametrize("name", ["promise_apm", "promise_apm_ips"])
def test_the_logits_of_the_network_are_the_trained_masks(name, load_golden):
    meta, state, arrays = load_golden(name)
    with torch.no_grad():
        logits = from_reference(name, state).low_resolution_logits(arrays["input"])
    assert_golden(logits, arrays["output_3"][:, :1], meta)


def test_sampled_points_are_the_authors(load_golden):
    _, state, arrays = load_golden("promise_ips_gt")
    network = from_reference("promise_ips_gt", state)
    random = np.random.RandomState(152)
    points, labels = network.sample_points(arrays["input_true_masks"][:, 0], random)
    assert torch.equal(points, arrays["input_points"])
    assert labels.tolist() == arrays["input_labels"].tolist()


def train_step(load_golden, dtype):
    meta, state, arrays = load_golden("promise_train_step")
    network = from_reference("promise_apm_ips", state).train().to(dtype)
    masks = network.predict_masks(arrays["input"].to(dtype))
    logits = masks.logits[:, :1]
    loss = create_loss("promise", form="released")(logits, arrays["input_true_masks"].to(dtype))
    loss.backward()
    return network, masks, loss, meta, arrays


def test_a_training_step(load_golden):
    network, masks, loss, meta, arrays = train_step(load_golden, torch.float32)
    first_norm = network.apm.resnet.bn1
    assert_golden(loss, arrays["output_0"], meta)
    assert_golden(masks.logits[:, :1].sigmoid(), arrays["output_1"], meta)
    assert_golden(masks.points, arrays["output_2"], meta)
    assert_golden(first_norm.running_mean, arrays["output_9"], meta)
    assert_golden(first_norm.running_var, arrays["output_10"], meta)


def test_the_gradients_of_a_training_step(load_golden):
    # In float64: in float32 one ReLU of half a million that flips would change some by 0.5 %.
    network, *_, meta, arrays = train_step(load_golden, torch.float64)
    for place, name in enumerate(TRAIN_GRADIENTS, start=3):
        assert_golden(network.get_parameter(name).grad.float(), arrays[f"output_{place}"], meta)


def test_the_target_is_reduced_bilinearly(load_golden):
    meta, _, arrays = load_golden("promise_losses")
    target = reduced_target(arrays["input_true_masks"], arrays["input"])
    assert_golden(target, arrays["output_0"], meta)


LOSS_CASES = pytest.mark.parametrize(
    ("logits", "target", "first"),
    [
        ("input", "output_0", 1),
        ("input_logits", "output_0", 6),
        ("input_logits_clamp", "input_target_clamp", 11),
    ],
    ids=["twice sigmoid", "logits", "clamped"],
)


@LOSS_CASES
def test_the_terms_of_the_loss(logits, target, first, load_golden):
    meta, _, arrays = load_golden("promise_losses")
    terms = (binary_cross_entropy, clamped_dice)
    values = torch.stack([term(arrays[logits], arrays[target]) for term in terms])
    assert_golden(values, torch.stack([arrays[f"output_{first + k}"] for k in range(2)]), meta)


@LOSS_CASES
def test_the_loss_and_its_gradient(logits, target, first, load_golden):
    meta, _, arrays = load_golden("promise_losses")
    given = arrays[logits].requires_grad_()
    loss = create_loss("promise")(given, arrays[target])
    loss.backward()
    assert_golden(loss, arrays[f"output_{first + 2}"], meta)
    assert_golden(given.grad, arrays[f"output_{first + 3}"], meta)


@LOSS_CASES
def test_the_score_of_each_sample(logits, target, first, load_golden):
    meta, _, arrays = load_golden("promise_losses")
    scores = dice_scores(arrays[logits], arrays[target])
    assert_golden(scores[:, 0], arrays[f"output_{first + 4}"], meta)


def test_the_released_form_takes_the_sigmoid_twice(load_golden):
    meta, _, arrays = load_golden("promise_losses")
    loss = create_loss("promise", form="released")
    found = loss(arrays["input_logits"], arrays["input_true_masks"])
    assert_golden(found, arrays["output_3"], meta)
