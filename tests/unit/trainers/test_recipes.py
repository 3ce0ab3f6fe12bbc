"""Recipes are data."""

import json

import pytest

from nnmedseg.errors import UserError
from nnmedseg.trainers.recipes import NNUNET, NNUNET_ADAMW, Recipe, validation_iterations


@pytest.mark.parametrize("recipe", [NNUNET, NNUNET_ADAMW])
def test_a_recipe_survives_a_plans_file(recipe):
    stored = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe().changed(stored) == recipe


def test_the_default_is_nnunets():
    assert (NNUNET.optimizer, NNUNET.initial_lr, NNUNET.weight_decay) == ("sgd", 1e-2, 3e-5)
    assert (NNUNET.epochs, NNUNET.iterations, validation_iterations(250)) == (1000, 250, 50)


def test_an_unknown_setting_is_named():
    with pytest.raises(UserError, match="epoch_count"):
        NNUNET.changed({"epoch_count": 3})


def test_an_unknown_optimizer_is_named():
    with pytest.raises(UserError, match="rmsprop"):
        NNUNET.changed({"optimizer": "rmsprop"})


def test_at_least_one_batch_is_validated():
    assert validation_iterations(1) == 1
