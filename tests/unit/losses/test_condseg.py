"""ConDSeg's losses."""

from __future__ import annotations

import math

import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.losses import create_loss, loss_forms
from nnmedseg.losses.condseg import area_weight, complementary, consistency, dice_bce, mask_loss

NAMES = pytest.mark.parametrize("name", ["condseg", "condseg_stage1"])
FORMS = pytest.mark.parametrize("form", ["corrected", "released"])


def maps(channels=1, seed=0):
    return torch.randn(2, channels, 6, 8, generator=torch.Generator().manual_seed(seed))


def mask(classes=2):
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, classes, (2, 1, 6, 8), generator=generator)


def outputs(name, classes=1):
    mask_logits = maps(classes)
    if name == "condseg_stage1":
        return [mask_logits, maps(classes, seed=1)]
    return [mask_logits, *(maps(seed=seed) for seed in (1, 2, 3))]


def two_classes(logits):
    """Two classes with the same probabilities as one logit, and a shift that changes none."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) + 3


@NAMES
def test_both_forms_exist(name):
    assert loss_forms(name) == ("corrected", "released")


def test_check_values_of_one_pixel():
    logits, target = torch.tensor([[[[0.0]]]]), torch.tensor([[[[1.0]]]])
    assert dice_bce(logits, target).item() == pytest.approx(math.log(2) + 1 - 2 / 2.5)
    twice = 1 / (1 + math.exp(-0.5))
    expected = -math.log(twice) + 1 - (2 * twice + 1) / (twice + 2)
    assert dice_bce(logits, target, "released").item() == pytest.approx(expected)


def test_dice_pools_the_batch():
    logits, target = maps(), mask().float()
    by_image = [dice_bce(logits[k : k + 1], target[k : k + 1]) for k in range(2)]
    assert not torch.isclose(dice_bce(logits, target), torch.stack(by_image).mean())


@NAMES
@FORMS
def test_two_classes_have_the_loss_of_one_logit(name, form):
    one = outputs(name)
    several = [two_classes(one[0]), *one[1:]]
    if name == "condseg_stage1":
        several = [two_classes(view) for view in one]
    loss = create_loss(name, form=form)
    torch.testing.assert_close(loss(several, mask()), loss(one, mask().float()))


def test_three_classes_of_which_one_never_occurs_add_its_dice():
    logits, labels = maps(2), mask()
    never = torch.full_like(logits[:, :1], -100)
    two = mask_loss(logits, labels)
    three = mask_loss(torch.cat([logits, never], dim=1), labels)
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels[:, 0])
    torch.testing.assert_close(three, cross_entropy + (two - cross_entropy) / 2)


@NAMES
def test_perfect_logits_of_several_classes_cost_little_for_the_mask(name):
    labels = mask(4)
    logits = 100 * torch.nn.functional.one_hot(labels[:, 0], 4).permute(0, 3, 1, 2).float()
    assert create_loss(name)(logits, labels) < 1e-5


def test_every_positive_label_is_foreground():
    labels = mask(4)
    logits = outputs("condseg", classes=4)
    loss = create_loss("condseg")
    binary = labels.clamp(max=1).float()
    expected = (
        mask_loss(logits[0], labels)
        + area_weight(logits[1]) * dice_bce(logits[1], binary)
        + area_weight(logits[2]) * dice_bce(logits[2], 1 - binary)
        + complementary(*logits[1:])
    )
    torch.testing.assert_close(loss(logits, labels), expected)


@NAMES
def test_class_numbers_may_lack_the_channel(name):
    loss, logits, labels = create_loss(name), outputs(name, classes=3), mask(3)
    assert torch.equal(loss(logits, labels[:, 0]), loss(logits, labels))


@NAMES
def test_the_released_form_is_refused_for_several_classes(name):
    with pytest.raises(UserError, match="corrected"):
        create_loss(name, form="released")(outputs(name, classes=3), mask(3))


@NAMES
@FORMS
def test_the_mask_alone_has_its_term_alone(name, form):
    logits, target = maps(), mask().float()
    expected = dice_bce(logits, target, form)
    assert torch.equal(create_loss(name, form=form)(logits, target), expected)


def test_the_second_sigmoid_keeps_a_perfect_prediction_from_zero():
    target = mask().float()
    logits = 200 * target - 100
    assert dice_bce(logits, target) < 1e-5
    assert dice_bce(logits, target, "released") > 0.5


def test_consistency_takes_decisions_without_gradient():
    first, second = maps().requires_grad_(), maps(seed=1)
    alone = torch.nn.functional.binary_cross_entropy_with_logits(first, (second > 0).float())
    expected = torch.autograd.grad(alone, first)
    assert torch.equal(torch.autograd.grad(consistency(first, second), first)[0], expected[0])


def test_the_papers_weight_halves_the_consistency():
    views, target = outputs("condseg_stage1"), mask().float()
    code, paper = (
        create_loss("condseg_stage1", consistency_weight=weight)(views, target)
        for weight in (1.0, 0.5)
    )
    torch.testing.assert_close(code - paper, consistency(*views) / 2)


def test_the_weight_by_area_sums_the_batch_and_has_a_gradient():
    logits = torch.zeros(3, 1, 4, 5, requires_grad=True)
    weight = area_weight(logits)
    assert weight.item() == pytest.approx(1 / math.tanh(1.5))
    weight.backward()
    assert (logits.grad < 0).all()


def test_the_complementary_term_is_largest_where_all_are_equal():
    equal = complementary(maps(), maps(), maps())
    assert equal.item() == pytest.approx(1 / 3)
    extreme = complementary(*(torch.full((1, 1, 2, 2), value) for value in (100.0, -100, -100)))
    assert extreme.item() == pytest.approx(0.289, abs=1e-3)


@NAMES
@FORMS
def test_autocast_does_not_change_the_loss(name, form):
    logits, target, loss = outputs(name), mask().float(), create_loss(name, form=form)
    expected = loss(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(logits, target), expected)


@NAMES
def test_half_precision_logits_are_summed_in_float32(name):
    logits = [x.half() for x in outputs(name)]
    loss = create_loss(name)
    assert torch.equal(loss(logits, mask().float()), loss([x.float() for x in logits], mask()))
