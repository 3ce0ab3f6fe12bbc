"""Trainers: one thin file a paper over the shared trainer in ``base.py``."""

from __future__ import annotations

import difflib
import importlib
import logging
import pkgutil
from typing import TYPE_CHECKING

from nnmedseg.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnmedseg.trainers.base import MedSegTrainer

logger = logging.getLogger(__name__)

NNUNET_TRAINER = "nnUNetTrainer"
NNUNET_PLANS = "nnUNetPlans"


def papers_trainers() -> list[type[MedSegTrainer]]:
    """Return every paper's trainer, found in the modules of this package, by name."""
    from nnmedseg.trainers.base import MedSegTrainer  # noqa: PLC0415 - imports torch

    found: dict[str, type[MedSegTrainer]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, MedSegTrainer) and value.network_name:
                found[value.__name__] = value
    return [found[name] for name in sorted(found)]


def available_trainers() -> list[type[nnUNetTrainer]]:
    """Return the papers' trainers, and after them those of plugins.

    Raises:
        UserError: A plugin cannot be loaded, or two trainers would be taken for each other.
    """
    from nnmedseg.trainers.plugins import plugin_trainers  # noqa: PLC0415 - imports torch

    found: dict[str, type[nnUNetTrainer]] = {}
    for trainer in (*papers_trainers(), *plugin_trainers()):
        _check_distinct(trainer, found)
        found[trainer.__name__] = trainer
    return list(found.values())


def _check_distinct(trainer: type[nnUNetTrainer], others: dict[str, type[nnUNetTrainer]]) -> None:
    name = trainer.__name__
    if name in others or name == NNUNET_TRAINER:
        raise UserError(
            f"two trainers are called {name}",
            where=trainer.__module__,
            mend="rename that of the plugin: its name is in the names of model folders",
        )
    sharing = [
        other
        for other in others.values()
        if default_plans_name(other) == default_plans_name(trainer) != NNUNET_PLANS
        and getattr(other, "recipe", None) != getattr(trainer, "recipe", None)
    ]
    if sharing:
        raise UserError(
            f"{name} and {sharing[0].__name__} have one plans file and different recipes, which "
            "are read from there",
            where=trainer.__module__,
            mend=f'give {name} a plans file of its own: plans_name = "..."',
        )


def find_trainer(name: str) -> type[nnUNetTrainer]:
    """Return one of our trainers, a plugin's, or one of nnU-Net's own.

    Raises:
        NotFoundError: There is none of that name; the nearest known one is given.
        UserError: A plugin cannot be loaded.
    """
    ours = {trainer.__name__: trainer for trainer in available_trainers()}
    if name in ours:
        return ours[name]
    from nnunetv2.utilities.find_objects import (  # noqa: PLC0415 - imports all of nnU-Net
        recursive_find_trainer_class_by_name,
    )

    from nnmedseg.nnunet import captured_output  # noqa: PLC0415

    try:
        with captured_output(logger):
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        known = [*ours, NNUNET_TRAINER]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        raise NotFoundError(
            f"there is no trainer {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
            where="-tr",
            mend=f"use one of: {', '.join(known)}, or another trainer class of nnU-Net; "
            "--plugin FILE adds your own",
        ) from error


def default_plans_name(trainer: type[nnUNetTrainer]) -> str:
    """Return the plans file that a trainer uses when none is given."""
    return getattr(trainer, "plans_name", NNUNET_PLANS)
