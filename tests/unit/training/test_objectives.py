"""The papers' losses with nnU-Net's labels."""

import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.errors import UserError
from nnmedseg.losses import create_loss
from nnmedseg.trainers.paper_recipes import (
    ASC,
    CONDSEG,
    HETEROMEDSEG,
    HETEROMEDSEG_SEVERAL_CLASSES,
    PROMISE,
    ROSPER,
)
from nnmedseg.trainers.recipes import NNUNET
from nnmedseg.training.objectives import PaperObjective, build_objective

BINARY = LabelManager({"background": 0, "lesion": 1}, None)
PAPERS = [ROSPER, ASC, CONDSEG, HETEROMEDSEG, PROMISE]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logit = torch.randn(2, 1, 8, 8)
    return logit, torch.randint(0, 2, (2, 1, 8, 8), dtype=torch.int16)


@pytest.mark.parametrize("recipe", PAPERS, ids=lambda recipe: recipe.loss)
def test_two_logits_have_the_papers_loss_of_their_difference(recipe, batch):
    logit, target = batch
    objective = build_objective(recipe, BINARY)
    shift = torch.randn_like(logit)
    found = objective([torch.cat([shift, shift + logit], dim=1)], target)
    expected = create_loss(recipe.loss)([logit], target.float())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("recipe", PAPERS, ids=lambda recipe: recipe.loss)
def test_validation_gives_one_tensor(recipe, batch):
    logit, target = batch
    loss = build_objective(recipe, BINARY)(torch.cat([-logit, logit], dim=1), target)
    assert loss.ndim == 0
    assert loss.isfinite()


def test_condsegs_auxiliary_logits_reach_its_loss(batch):
    logit, target = batch
    auxiliary = [torch.randn_like(logit) for _ in range(3)]
    found = build_objective(CONDSEG, BINARY)(
        [torch.cat([-logit, logit], dim=1), *auxiliary], target
    )
    expected = create_loss("condseg")([2 * logit, *auxiliary], target.float())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["condseg", "heteromedseg", "promise"])
def test_several_classes_have_a_loss_that_falls_towards_the_truth(name):
    target = torch.randint(0, 3, (2, 1, 8, 8), dtype=torch.int16)
    truth = torch.nn.functional.one_hot(target[:, 0].long(), 3).permute(0, 3, 1, 2).float()
    objective = PaperObjective(name, "corrected", 3)
    right, wrong = ([20 * (sign * (truth - 0.5))] for sign in (1, -1))
    assert objective(right, target) < 0.05
    assert objective(wrong, target) > 1


def test_released_faults_are_brought_back_by_name(batch):
    logit, target = batch
    outputs = [torch.cat([-logit, logit], dim=1)]
    released = build_objective(CONDSEG.changed({"loss_form": "released"}), BINARY)
    assert released(outputs, target) != build_objective(CONDSEG, BINARY)(outputs, target)


@pytest.mark.parametrize("recipe", [NNUNET, ROSPER])
def test_where_no_fault_was_released_none_can_be_asked_for(recipe):
    with pytest.raises(UserError, match="no fault"):
        build_objective(recipe.changed({"loss_form": "released"}), BINARY)


def test_a_fault_of_the_augmentation_leaves_the_loss_as_it_is():
    organs = LabelManager({"background": 0, "liver": 1, "spleen": 2}, None)
    recipe = HETEROMEDSEG_SEVERAL_CLASSES
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    released = build_objective(recipe.changed({"loss_form": "released"}), organs)
    assert released([logits], target) == build_objective(recipe, organs)([logits], target)


def test_a_released_fault_with_several_classes_is_refused():
    with pytest.raises(UserError, match="one foreground class"):
        PaperObjective("condseg", "released", 3)


def test_labels_that_the_loss_does_not_know_are_refused():
    ignoring = LabelManager({"background": 0, "lesion": 1, "ignore": 2}, None)
    with pytest.raises(UserError, match="ignore label"):
        build_objective(ROSPER, ignoring)


def test_nnunets_loss_is_left_to_nnunet():
    assert build_objective(NNUNET, BINARY) is None
