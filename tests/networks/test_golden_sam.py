"""SAM's parts compute what SAM computes, with the tolerances of the fixtures."""

from __future__ import annotations

import re

import pytest
import torch

from nnmedseg.networks.layers.sam import build_sam, postprocess_masks
from nnmedseg.weights.sam import load_sam, sam_options

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_golden(actual, expected, meta):
    torch.testing.assert_close(actual, expected, rtol=meta["rtol"], atol=meta["atol"])


@pytest.fixture(scope="module")
def sam(load_golden):
    """A small plain SAM, its embedding of the fixture's images, and what the fixture holds."""
    meta, state, arrays = load_golden("sam_tiny")
    state = {name: torch.from_numpy(value) for name, value in state.items()}
    network = build_sam(**sam_options(state)).eval()
    load_sam(network, state)
    with torch.no_grad():
        embedding, _ = network.image_encoder(arrays["input"])
    return network, embedding, meta, arrays


def test_options_are_read_from_shapes(load_golden):
    meta, state, _ = load_golden("sam_tiny")
    state = {name: torch.from_numpy(value) for name, value in state.items()}
    options = sam_options(state)
    assert options == {name: meta["constructor"][name] for name in options}


def test_embedding(sam):
    _, embedding, meta, arrays = sam
    assert_golden(embedding, arrays["output_0"], meta)


def test_positions_of_the_embedding(sam):
    network, _, meta, arrays = sam
    assert_golden(network.prompt_encoder.pe_layer.grid(16, 16), arrays["output_1"], meta)


@torch.no_grad()
def test_masks_for_points(sam):
    network, embedding, meta, arrays = sam
    prompts = {"points": arrays["input_points"], "labels": arrays["input_labels"]}
    masks = network.decode(embedding, **prompts)
    assert_golden(masks.logits[:, 1:], arrays["output_2"], meta)
    assert_golden(masks.iou[:, 1:], arrays["output_3"], meta)


@torch.no_grad()
def test_mask_for_points_box_and_mask(sam):
    network, embedding, meta, arrays = sam
    masks = network.decode(
        embedding,
        points=arrays["input_points"],
        labels=arrays["input_labels"],
        boxes=arrays["input_boxes"],
        masks=arrays["input_masks"],
    )
    assert_golden(masks.logits[:, :1], arrays["output_4"], meta)
    assert_golden(masks.iou[:, :1], arrays["output_5"], meta)


@torch.no_grad()
def test_masks_without_a_prompt(sam):
    network, embedding, meta, arrays = sam
    masks = network.decode(embedding)
    assert masks.sparse is None
    assert_golden(masks.logits[:, 1:], arrays["output_6"], meta)
    assert_golden(masks.iou[:, 1:], arrays["output_7"], meta)


def test_masks_at_the_size_of_the_original(sam):
    *_, meta, arrays = sam
    masks = postprocess_masks(arrays["output_2"][:1], (192, 256), (192 + 25, 256 + 33))
    assert_golden(masks, arrays["output_8"], meta)


def test_modules_on_the_way(sam):
    network, _, _, arrays = sam
    outputs = {}
    expected = {key: value for key, value in arrays.items() if key.startswith("mid/")}
    hooks = [
        network.get_submodule(key.removeprefix("mid/")).register_forward_hook(
            lambda module, inputs, output, key=key: outputs.update({key: output})
        )
        for key in expected
    ]
    with torch.no_grad():
        network(arrays["input"], boxes=arrays["input_boxes"], masks=arrays["input_masks"])
    for hook in hooks:
        hook.remove()
    assert outputs.keys() == expected.keys()
    for key, output in outputs.items():
        flat = output.reshape(-1)
        digest = torch.cat([flat[:32], flat.mean()[None], flat.std(unbiased=False)[None]])
        torch.testing.assert_close(digest, expected[key], rtol=1e-5, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize(("block", "kind"), [(0, "global"), (1, "window")])
def test_blocks_on_another_grid_than_their_tables(block, kind, load_golden):
    meta, state, arrays = load_golden("sam_block_resized")
    arguments = meta["constructor"]
    encoder = build_sam(
        image_size=16 * arguments["grid"],
        embed_dim=arguments["dim"],
        depth=2,
        num_heads=arguments["num_heads"],
        window_size=arguments["window_size"],
        global_attn_indexes=[0],
    ).image_encoder
    own = {
        re.sub(r"mlp\.lin", "mlp.fc", name.removeprefix(f"{kind}.")): torch.from_numpy(value)
        for name, value in state.items()
        if name.startswith(f"{kind}.")
    }
    encoder.blocks[block].load_state_dict(own)
    found = encoder.blocks[block](arrays["input"])
    assert_golden(found, arrays[f"output_{block}"], meta)
