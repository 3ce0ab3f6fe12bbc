"""ProMISe's own properties."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnmedseg.errors import SizeError, UserError
from nnmedseg.networks import create_network
from nnmedseg.networks.layers.rgb import ToRGB
from nnmedseg.networks.layers.sam import build_sam

SMALL = {
    "sam_size": None,
    "num_points": 4,
    "image_size": 64,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "window_size": 3,
    "prompt_embed_dim": 64,
}
NAMES = ["promise_apm", "promise_apm_ips", "promise_ips_gt"]


def build(name="promise_apm_ips", channels=3, classes=1, **options):
    torch.manual_seed(0)
    return create_network(name, channels, classes, **(SMALL | options)).eval()


def images(channels=3, batch=2, height=64, width=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, height, width, generator=generator)


def prompts(batch=2, points=4, size=64):
    generator = torch.Generator().manual_seed(2)
    labels = torch.tensor([1, 1, 0, 0]).expand(batch, points)
    return torch.rand(batch, points, 2, generator=generator) * size, labels


def count(module: nn.Module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


# Parameters.

FC2 = 525_312


@pytest.mark.parametrize(
    ("name", "total", "trained"),
    [
        ("promise_apm", 122_451_920 - FC2, 28_716_448 - FC2),
        ("promise_apm_ips", 123_764_688 - FC2, 30_029_216 - FC2),
        ("promise_ips_gt", 95_048_240, 1_312_768),
    ],
)
def test_parameters_are_the_papers_without_its_unused_layer(name, total, trained):
    with torch.device("meta"):
        network = create_network(name, 3, 1)
    assert (count(network), count(network, trained=True)) == (total, trained)


def test_parameters_of_the_parts():
    with torch.device("meta"):
        network = create_network("promise_apm_ips", 3, 1)
    sam = network.sam
    assert count(sam.image_encoder) == 89_670_912
    assert count(sam.prompt_encoder) == 6_220
    assert count(sam.mask_decoder) == 4_058_340
    assert count(network.apm.fusion) == 6_488_832
    assert count(network.apm.resnet) == 22_227_616 - FC2
    assert count(network.ips) == 1_312_768


@pytest.mark.parametrize(
    ("options", "parameters", "tensors"),
    [
        ({}, 93_735_472, 314),
        ({"embed_dim": 1024, "depth": 24, "num_heads": 16}, 312_342_832, 482),
        ({"embed_dim": 1280, "depth": 32, "num_heads": 16}, 641_090_608, 594),
    ],
    ids=["vit_b", "vit_l", "vit_h"],
)
def test_sams_variants_have_their_parameters(options, parameters, tensors):
    with torch.device("meta"):
        sam = build_sam(**options)
    assert (count(sam), len(sam.state_dict())) == (parameters, tensors)


@pytest.mark.parametrize("depth", [12, 24, 32])
def test_maps_are_taken_from_blocks_that_attend_globally(depth):
    with torch.device("meta"):
        network = create_network("promise_apm", 3, 1, **(SMALL | {"depth": depth}))
    assert {tap - 1 for tap in network.taps} <= set(network.options["global_attn_indexes"])


# What trains.


@pytest.mark.parametrize("name", NAMES)
def test_only_parts_outside_of_sam_train(name):
    frozen = [k for k, p in build(name).named_parameters() if not p.requires_grad]
    assert frozen
    assert all(key.startswith("sam.") for key in frozen)
    assert len(frozen) == len(list(build(name).sam.parameters()))


def test_autograd_records_nothing_in_the_encoder():
    embedding, maps = build().sam.image_encoder(images())
    assert not any(x.requires_grad for x in [embedding, *maps])


def test_an_input_convolution_is_trained_through_the_encoder():
    network = build(channels=4)
    network(images(4)).sum().backward()
    assert network.to_rgb.mix.weight.grad.abs().sum() > 0


def test_points_are_trained_through_the_mask():
    network = build("promise_apm", sam_size=320).train()
    network(images()).square().mean().backward()
    assert network.apm.resnet.fc.weight.grad.abs().sum() > 0


def test_all_token_shifts_reach_the_trained_mask():
    network = build("promise_ips_gt")
    network(images(), *prompts()).square().mean().backward()
    of_each_token = network.ips.lin2.bias.grad.view(4, -1).abs().sum(1)
    assert (of_each_token > 0).all()


# Sizes and channels.


def test_by_default_sam_runs_at_1024():
    assert create_network("promise_ips_gt", 3, 1, **(SMALL | {"sam_size": 1024})).sam_size == 1024
    with torch.device("meta"):
        assert create_network("promise_ips_gt", 3, 1).sam_size == 1024


@torch.no_grad()
def test_sams_size_sets_the_low_resolution():
    low = build(sam_size=128).low_resolution_logits(images(height=32, width=48))
    assert low.shape == (2, 1, 32, 32)


@torch.no_grad()
def test_sams_size_resizes_the_image_bilinearly():
    image = images(height=32, width=48)
    resized = nn.functional.interpolate(image, (128, 128), mode="bilinear")
    network = build(sam_size=128)
    expected = build(sam_size=None).low_resolution_logits(resized)
    torch.testing.assert_close(network.low_resolution_logits(image), expected)


@torch.no_grad()
def test_an_image_of_sams_size_is_left_alone():
    image = images()
    assert torch.equal(build(sam_size=64)(image), build(sam_size=None)(image))


@torch.no_grad()
def test_logits_are_enlarged_bilinearly():
    network, image = build(), images()
    expected = nn.functional.interpolate(
        network.low_resolution_logits(image), scale_factor=4, mode="bilinear"
    )
    torch.testing.assert_close(network(image), expected)


@torch.no_grad()
def test_points_scale_with_width_and_height():
    network = build("promise_apm")
    nn.init.zeros_(network.apm.resnet.fc.weight)
    nn.init.zeros_(network.apm.resnet.fc.bias)
    points = network.predict_masks(images(height=32, width=96)).points
    assert points.unique(dim=1).tolist() == [[[48.0, 16.0]]] * 2


@torch.no_grad()
def test_given_points_move_with_the_image():
    network = build("promise_ips_gt", sam_size=64)
    pixels = torch.tensor([[[0.0, 0.0], [31.0, 15.0]]])
    labels = torch.tensor([[1, 0]])
    found = network.predict_masks(images(batch=1, height=16, width=32), pixels, labels)
    assert found.points.tolist() == [[[0.5, 1.5], [62.5, 61.5]]]


@pytest.mark.parametrize("option", ["sam_size", "image_size"])
def test_a_size_for_sam_that_is_no_multiple_of_16_is_refused(option):
    with pytest.raises(UserError, match=f"{option}=100"):
        build(**{option: 100})


@torch.no_grad()
def test_one_channel_is_repeated():
    image = images(1)
    expected = build(channels=3)(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(build(channels=1)(image), expected)


def test_other_channels_start_as_their_mean():
    image = images(5)
    expected = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(ToRGB(5)(image), expected)


def test_normalising_is_imagenets():
    colour = torch.tensor([0.485 + 0.229, 0.456, 0.406 - 0.225]).view(1, 3, 1, 1)
    found = ToRGB(3, normalize=True)(colour.expand(1, 3, 2, 2))
    expected = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_normalising_is_off_unless_asked_for():
    assert not build().options["normalize"]


# Classes.


@torch.no_grad()
def test_a_softmax_gets_a_zero_background():
    logits = build(classes=4)(images())
    assert logits.shape[1] == 4
    assert (logits[:, 0] == 0).all()


@torch.no_grad()
def test_regions_have_no_background():
    logits = build(classes=4, regions=True)(images())
    assert logits.shape[1] == 4
    assert (logits.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_two_classes_have_the_parameters_of_one():
    shapes = [
        {name: value.shape for name, value in build(classes=classes).state_dict().items()}
        for classes in (1, 2)
    ]
    assert shapes[0] == shapes[1]


@torch.no_grad()
def test_a_class_is_what_a_network_of_that_class_alone_predicts():
    network, image = build(classes=4), images()
    state = network.state_dict()
    for name in ("apm.resnet.fc.weight", "apm.resnet.fc.bias", "ips.lin2.weight", "ips.lin2.bias"):
        state[name] = state[name].chunk(3)[1]
    alone = build(classes=1)
    alone.load_state_dict(state)
    torch.testing.assert_close(network(image)[:, 2:3], alone(image))


# Points.


@torch.no_grad()
def test_given_points_replace_those_of_the_apm():
    network, image = build(), images()
    points, labels = prompts()
    found = network.predict_masks(image, points, labels)
    assert torch.equal(found.points, points)
    assert not torch.equal(found.logits, network.predict_masks(image).logits)


@torch.no_grad()
def test_the_first_half_of_the_points_is_foreground():
    labels = build(num_points=5).predict_masks(images()).labels
    assert labels.tolist() == [[1, 1, 0, 0, 0]] * 2


@torch.no_grad()
def test_without_points_a_network_without_apm_has_no_sparse_token():
    found = build("promise_ips_gt").predict_masks(images())
    assert found.sparse is None
    assert found.points is None
    assert found.logits.isfinite().all()


@torch.no_grad()
def test_each_class_can_have_points_of_its_own():
    points, labels = prompts(batch=6)
    points, labels = points.view(2, 3, 4, 2), labels.reshape(2, 3, 4)
    network, image = build("promise_ips_gt", classes=4), images()
    logits = network(image, points, labels)
    changed = points.clone()
    changed[:, 1] = 64 - changed[:, 1]
    difference = (network(image, changed, labels) - logits).abs().amax(dim=(0, 2, 3))
    assert (difference > 0).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("points", "labels"),
    [((2, 4, 2), None), ((2, 4, 2), (2, 3)), ((1, 4, 2), (1, 4)), ((2, 4, 3), (2, 4))],
    ids=["no labels", "too few labels", "other batch", "three coordinates"],
)
def test_points_that_do_not_fit_are_refused(points, labels):
    labels = None if labels is None else torch.ones(labels)
    with pytest.raises(SizeError, match="points"):
        build("promise_ips_gt")(images(), torch.ones(points), labels)


@torch.no_grad()
def test_points_stay_in_float32_under_autocast():
    network, image = build("promise_apm"), images()
    exact = network.predict_masks(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.predict_masks(image)
        given = network.predict_masks(image, exact.points, exact.labels)
    assert found.points.dtype == torch.float32
    assert torch.equal(given.sparse, exact.sparse)


@torch.no_grad()
def test_the_last_layer_of_the_apm_is_exact_under_autocast():
    head = build("promise_apm").apm.resnet
    pooled = []
    head.layer4.register_forward_hook(
        lambda module, inputs, x: pooled.append(x.float().mean((2, 3)))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(torch.randn(2, 64, 4, 4))
    assert torch.equal(found, nn.functional.linear(pooled[0], head.fc.weight, head.fc.bias))


def test_a_whole_network_in_bfloat16_runs():
    network = build().bfloat16()
    assert network(images().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"sam_size": None}, {"sam_size": 64}], ids=["own", "resized"])
def test_it_can_be_exported(options):
    network, image = build(**options), images(height=32, width=48)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-5)
