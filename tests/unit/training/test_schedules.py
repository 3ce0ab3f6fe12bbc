"""Learning rates over a training."""

import numpy as np
import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnmedseg.errors import UserError
from nnmedseg.trainers.paper_recipes import HETEROMEDSEG_SEVERAL_CLASSES, ROSPER
from nnmedseg.trainers.recipes import NNUNET
from nnmedseg.training.schedules import build_schedule


def optimizer(rate, other=None):
    groups = [{"params": [torch.zeros(1, requires_grad=True)]}]
    if other is not None:
        groups.append({"params": [torch.zeros(1, requires_grad=True)], "lr": other})
    return torch.optim.SGD(groups, rate)


def rates(recipe, times):
    made = optimizer(recipe.initial_lr)
    schedule = build_schedule(made, recipe)
    found = []
    for time in times:
        schedule.step(time)
        found.append(made.param_groups[0]["lr"])
    return found


def test_poly_is_nnunets():
    theirs = optimizer(NNUNET.initial_lr)
    schedule = PolyLRScheduler(theirs, NNUNET.initial_lr, NNUNET.epochs)
    for epoch in (0, 1, 500, 999):
        schedule.step(epoch)
        assert rates(NNUNET, [epoch]) == pytest.approx([theirs.param_groups[0]["lr"]], rel=1e-12)


def test_rospers_cosine_rises_again_after_50_epochs():
    expected = [1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * t / 50)) / 2 for t in (0, 25, 50, 100)]
    assert rates(ROSPER, [0, 25, 50, 100]) == pytest.approx(expected)
    assert rates(ROSPER, [50]) == pytest.approx([1e-5])


def test_restarts_begin_cycles_each_twice_as_long():
    recipe = HETEROMEDSEG_SEVERAL_CLASSES.changed({"epochs": 7, "scheduler_options": {"cycles": 3}})
    starts = rates(recipe, [0, 1, 3])
    assert starts == pytest.approx([recipe.initial_lr] * 3)
    assert max(rates(recipe, [0.999, 2.999, 6.999])) < 1e-2 * recipe.initial_lr
    assert rates(recipe, [2]) == pytest.approx([recipe.initial_lr / 2])


def test_the_last_restart_ends_with_the_training():
    assert rates(HETEROMEDSEG_SEVERAL_CLASSES, [274]) == pytest.approx([1e-6])


def test_each_group_of_parameters_falls_from_its_own_rate():
    made = optimizer(1e-4, 1e-5)
    build_schedule(made, NNUNET.changed({"initial_lr": 1e-4, "epochs": 10})).step(5)
    first, second = (group["lr"] for group in made.param_groups)
    assert first == pytest.approx(10 * second)
    assert first < 1e-4


def test_a_plateau_lowers_the_rate_once_the_loss_has_stopped_to_fall():
    recipe = NNUNET.changed({"scheduler": "plateau", "scheduler_options": {"patience": 2}})
    made = optimizer(1.0)
    schedule = build_schedule(made, recipe)
    found = []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.0, 2.0, 1.0]):
        schedule.step(epoch)
        found.append(made.param_groups[0]["lr"])
        schedule.observe(loss)
    assert found == pytest.approx([1, 1, 1, 1, 1, 0.1])


@pytest.mark.parametrize("scheduler", ["poly", "plateau"])
def test_a_state_leads_back_to_the_same_rates(scheduler):
    recipe = NNUNET.changed({"scheduler": scheduler, "epochs": 4})
    first, second = build_schedule(optimizer(1.0), recipe), build_schedule(optimizer(1.0), recipe)
    first.step(3)
    second.load_state_dict(first.state_dict())
    assert second.last_epoch == first.last_epoch
    assert second.get_last_lr() == first.get_last_lr()


def test_an_option_of_another_scheduler_is_refused():
    with pytest.raises(UserError, match="cycles"):
        build_schedule(optimizer(1.0), NNUNET.changed({"scheduler_options": {"cycles": 2}}))


def test_another_scheduler_does_not_keep_the_old_ones_options():
    assert ROSPER.changed({"scheduler": "poly"}).scheduler_options == {}
    assert ROSPER.changed({"epochs": 3}).scheduler_options == ROSPER.scheduler_options
