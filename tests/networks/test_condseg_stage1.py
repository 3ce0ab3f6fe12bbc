"""The first stage's strong view, and what its loss gets."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.networks import create_network
from nnmedseg.networks.layers.strong_view import strong_view


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_view_has_the_images_shape_and_type_and_no_gradient(channels):
    image = torch.rand(2, channels, 8, 12, requires_grad=True)
    view = strong_view(image)
    assert (view.shape, view.dtype, view.requires_grad) == (image.shape, image.dtype, False)
    assert not torch.allclose(view, image, atol=0.01)


def test_each_image_has_a_draw_of_its_own():
    first, second = strong_view(torch.rand(1, 3, 8, 8).repeat(2, 1, 1, 1))
    assert not torch.allclose(first, second, atol=0.01)


def test_a_view_repeats_with_pytorchs_generator():
    image, state = torch.rand(2, 3, 8, 8), torch.get_rng_state()
    first = strong_view(image)
    torch.set_rng_state(state)
    assert torch.equal(strong_view(image), first)


def test_a_view_of_an_image_from_0_to_1_stays_there():
    view = strong_view(torch.rand(16, 3, 8, 8))
    assert 0 <= view.min() < view.max() <= 1


def test_a_view_of_a_normalised_image_is_that_of_its_range():
    image, state = torch.rand(1, 3, 8, 8), torch.get_rng_state()
    image[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    view = strong_view(image)
    torch.set_rng_state(state)
    torch.testing.assert_close(strong_view(6 * image - 2), 6 * view - 2)


def levels(image):
    return len(image.mul(1e4).round().unique())


def test_the_blur_is_vertical_only():
    halves = torch.tensor([0.3, 0.6]).repeat_interleave(4).expand(1, 1, 8, 8)
    assert levels(strong_view(halves)) == 2
    assert levels(strong_view(halves.mT)) > 2


def test_half_of_the_views_are_grey():
    views = strong_view(torch.rand(200, 3, 4, 4))
    grey = (views - views.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert 80 <= grey.sum() <= 120


def test_channels_that_are_no_colours_have_one_draw():
    one, other = strong_view(torch.rand(1, 1, 8, 8).repeat(1, 2, 1, 1))[0]
    assert torch.equal(one, other)


def test_autocast_does_not_coarsen_a_view():
    image, state = torch.rand(2, 3, 8, 8), torch.get_rng_state()
    exact = strong_view(image)
    torch.set_rng_state(state)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(strong_view(image), exact)


def test_the_loss_gets_the_logits_of_both_views_from_two_passes():
    network = create_network("condseg_stage1", 3, 2, width=16).train()
    norm = network.encoder.model.bn1
    image, other = network.outputs_for_own_loss(torch.rand(2, 3, 32, 32))
    assert image.shape == other.shape == (2, 2, 32, 32)
    assert not torch.allclose(image, other, atol=1e-3)
    assert norm.num_batches_tracked == 2
