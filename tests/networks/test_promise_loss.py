"""ProMISe's loss."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import SizeError
from nnmedseg.losses import create_loss


def test_a_perfect_prediction_costs_142_in_the_released_form():
    target = torch.zeros(1, 1, 100, 100)
    target[..., :10] = 1
    logits = (target * 2 - 1) * 50
    assert create_loss("promise", form="released")(logits, target).item() == pytest.approx(
        1.42, abs=0.005
    )
    assert create_loss("promise")(logits, target).item() == pytest.approx(0, abs=1e-3)


def test_the_loss_reduces_the_target_to_the_logits():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 1:3, 1:3] = 1  # the central four of the first sixteen pixels
    exact = torch.zeros(1, 1, 2, 2)
    exact[0, 0, 0, 0] = 1
    logits, loss = torch.randn(1, 1, 2, 2), create_loss("promise")
    torch.testing.assert_close(loss(logits, target), loss(logits, exact))


def test_the_loss_takes_two_classes_as_one():
    logits = torch.randn(2, 1, 8, 8)
    target = (torch.rand(2, 1, 8, 8) > 0.5).float()
    both, loss = torch.cat([torch.zeros_like(logits), logits], dim=1), create_loss("promise")
    torch.testing.assert_close(loss(both, target), loss(logits, target))


def test_regions_count_as_samples_in_the_loss():
    logits = torch.randn(2, 3, 8, 8)
    target = (torch.rand(2, 3, 8, 8) > 0.5).float()
    loss = create_loss("promise")
    alone = loss(logits.reshape(6, 1, 8, 8), target.reshape(6, 1, 8, 8))
    torch.testing.assert_close(loss(logits, target), alone)


def test_without_the_clamp_an_image_without_foreground_has_a_gradient_from_dice():
    logits = torch.full((1, 1, 4, 4), -12.0, requires_grad=True)
    gradients = {
        clamped: torch.autograd.grad(
            create_loss("promise", clamped=clamped).dice(logits, torch.zeros(1, 1, 4, 4)), logits
        )[0]
        for clamped in (True, False)
    }
    assert gradients[True].count_nonzero() == 0
    assert (gradients[False] > 0).all()


def test_the_loss_refuses_more_logits_than_masks():
    with pytest.raises(SizeError, match="3 logits, 1 masks"):
        create_loss("promise")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


def test_the_loss_is_float32_under_autocast():
    logits = torch.randn(1, 1, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = create_loss("promise", form="released")(logits, torch.ones(1, 1, 32, 32))
    assert loss.dtype == torch.float32
