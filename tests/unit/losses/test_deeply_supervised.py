"""The losses of RoSPER-Net and ASC-Seg."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nnmedseg.errors import SizeError
from nnmedseg.losses import create_loss, loss_forms
from nnmedseg.losses.pooled import binary_cross_entropy, dice_by_sample

PROBABILITIES = torch.tensor([[0.9, 0.2, 0.4, 0.7], [0.1, 0.6, 0.3, 0.5]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0.25, 0]], dtype=torch.float64).view(2, 1, 2, 2)
LOGITS = PROBABILITIES.logit().view(2, 1, 2, 2)


def test_cross_entropy_of_a_worked_example():
    assert binary_cross_entropy(LOGITS, TARGET).item() == pytest.approx(
        0.38422967046200684, abs=1e-14
    )


def test_dice_of_a_worked_example():
    assert dice_by_sample(LOGITS, TARGET).item() == pytest.approx(0.2828205128205128, abs=1e-14)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rosper", {}, 0.6670501832825196),
        ("asc", {}, 0.3335250916412598),
        ("asc", {"cross_entropy_weight": 1.0, "dice_weight": 1.0}, 0.6670501832825196),
    ],
    ids=["rosper", "asc", "asc older release"],
)
def test_loss_of_a_worked_example(name, options, expected):
    loss = create_loss(name, **options)
    assert loss(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_outputs_are_summed(name):
    loss = create_loss(name)
    torch.testing.assert_close(
        loss([LOGITS, LOGITS, -LOGITS, LOGITS], TARGET),
        3 * loss(LOGITS, TARGET) + loss(-LOGITS, TARGET),
    )


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_gradient_is_that_of_the_formula_on_probabilities(name):
    loss = create_loss(name)
    logits = LOGITS.clone().requires_grad_()
    p, t = logits.sigmoid().flatten(1), TARGET.flatten(1)
    dice = 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    formula = loss.cross_entropy_weight * functional.binary_cross_entropy(p, t)
    formula = formula + loss.dice_weight * dice.mean()
    (expected,) = torch.autograd.grad(formula, logits)
    (actual,) = torch.autograd.grad(loss(logits, TARGET), logits)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_confident_mistakes_in_half_precision_have_a_finite_loss(name):
    logits = torch.full((2, 1, 4, 4), 90.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = create_loss(name)(logits, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    assert value.dtype == torch.float32
    assert value.isfinite()


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_two_classes_have_the_loss_of_one_logit(name):
    logits, target = torch.randn(2, 2, 4, 4), torch.rand(2, 1, 4, 4)
    loss = create_loss(name)
    torch.testing.assert_close(loss(logits, target), loss(logits[:, 1:] - logits[:, :1], target))


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_more_classes_are_refused(name):
    with pytest.raises(SizeError, match="3 classes"):
        create_loss(name)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("name", ["rosper", "asc"])
def test_there_is_no_released_fault(name):
    assert loss_forms(name) == ("corrected",)
