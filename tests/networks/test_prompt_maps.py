"""Point prompts that travel with the image."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.networks.adapter import PlannedNetwork, cropped
from nnmedseg.networks.prompt_maps import maps_of_points, points_of_maps

from .test_frozen import TINY

POINTS = torch.tensor([[[[3.0, 1.0], [5.0, 2.0], [3.0, 1.0]]]])
LABELS = torch.tensor([[[1, 0, 1]]])


def as_list(points, labels):
    pairs = zip(points[0, 0].tolist(), labels[0, 0].tolist(), strict=True)
    return sorted((label, *point) for point, label in pairs)


def test_maps_give_their_points_back():
    found = points_of_maps(maps_of_points(POINTS, LABELS, (4, 8)), 4)
    assert as_list(*found) == as_list(POINTS, LABELS)


def test_a_mirrored_map_has_mirrored_points():
    maps = maps_of_points(POINTS, LABELS, (4, 8)).flip(-1)
    mirrored = POINTS * torch.tensor([-1, 1]) + torch.tensor([7, 0])
    assert as_list(*points_of_maps(maps, 4)) == as_list(mirrored, LABELS)


def test_a_tile_has_the_points_in_it():
    tile = maps_of_points(POINTS, LABELS, (4, 8))[..., 1:3, 4:8]
    assert as_list(*points_of_maps(tile, 4)) == [(0, 1.0, 1.0)]


def test_a_class_without_points_gets_background_points_as_in_training():
    maps = maps_of_points(POINTS, LABELS, (4, 8))
    points, labels = points_of_maps(torch.cat([maps, torch.zeros_like(maps)], dim=1), 4)
    assert labels[0, 1].tolist() == [0, 0, 0, 0]
    assert labels[0, 0].tolist() == [1, 1, 0, -1]
    assert (points[0, 1] < torch.tensor([8, 4])).all()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PlannedNetwork(3, 2, network="promise_ips_gt", **TINY).eval()


def with_prompts(image):
    points = torch.tensor([[[[10.0, 20.0], [30.0, 5.0]]]])
    labels = torch.tensor([[[1, 0]]])
    return torch.cat([image, maps_of_points(points, labels, image.shape[2:])], 1), points, labels


@torch.no_grad()
def test_a_planned_network_is_prompted_by_the_channels_behind_the_image(network):
    image, points, labels = with_prompts(torch.randn(1, 3, 32, 48))
    # The points are in the order of the pixels, which the network does not mind.
    expected = network.network(image[:, :3], points, labels)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prompts_move_the_prediction(network):
    image = torch.randn(1, 3, 32, 48)
    prompted, _, _ = with_prompts(image)
    assert (network(prompted) - network(image)).abs().max() > 1e-3


def test_where_prompts_are_required_an_image_alone_is_refused(network):
    network.prompts_required = True
    with pytest.raises(UserError, match="needs point prompts"):
        network(torch.randn(1, 3, 32, 48))
    assert network(with_prompts(torch.randn(1, 3, 32, 48))[0]).isfinite().all()


# Outputs for the paper's own loss, at a quarter of SAM's size.


def test_the_own_loss_gets_logits_at_a_quarter_of_sams_size(network):
    network.own_outputs_in_training = True
    (logits,) = network.train()(with_prompts(torch.randn(2, 3, 32, 48)[:1])[0])
    assert logits.shape == (1, 2, 16, 16)


def test_padding_is_cut_away_in_proportion():
    logits = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(cropped(logits, (64, 64), (32, 48)), logits[..., :2, :3])


def test_where_an_image_ends_within_a_pixel_logits_come_in_its_own_size():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    found = cropped(ramp, (64, 64), (64, 40))
    assert found.shape == (1, 1, 64, 40)
    centres = ((torch.arange(40) + 0.5) / 16 - 0.5).clamp(0, 3)
    torch.testing.assert_close(found[0, 0, 0], centres)


def test_an_apm_is_trained_on_what_its_last_maps_need():
    options = TINY | {"sam_size": None}
    network = PlannedNetwork(3, 2, network="promise_apm", **options).train()
    logits = network(torch.randn(1, 3, 64, 64))  # one image of one pixel could not be normalised
    assert logits.shape == (1, 2, 64, 64)
    logits.square().mean().backward()
    assert network.network.apm.resnet.fc.weight.grad.isfinite().all()
