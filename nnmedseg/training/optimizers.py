"""The optimiser that a recipe asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.trainers.recipes import Recipe

NESTEROV_MOMENTUM = 0.99  # nnU-Net's


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters that are trained.

    Args:
        network: As nnU-Net's trainer has it, compiled or not.
        recipe: Names it, with its learning rates and weight decay.
    """
    groups = parameter_groups(network, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            recipe.initial_lr,
            weight_decay=recipe.weight_decay,
            momentum=NESTEROV_MOMENTUM,
            nesterov=True,
        )
    optimizer = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return optimizer(groups, recipe.initial_lr, weight_decay=recipe.weight_decay)


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the trained parameters, those of a pretrained encoder apart where it learns slower."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    planned = getattr(network, "_orig_mod", network)
    if recipe.encoder_lr is None or not isinstance(planned, PlannedNetwork):
        return [{"params": trained}]
    encoder = {id(parameter) for parameter in planned.network.encoder_parameters()}
    inside = [parameter for parameter in trained if id(parameter) in encoder]
    outside = [parameter for parameter in trained if id(parameter) not in encoder]
    # The first group's learning rate is the one that nnU-Net logs.
    groups: list[dict[str, Any]] = [{"params": outside}]
    return [*groups, {"params": inside, "lr": recipe.encoder_lr}] if inside else groups
