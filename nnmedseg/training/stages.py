"""Trainings in two stages: the first is a run of its own, whose encoder the second starts from.

A trainer that names a ``first_stage`` is trained after that. The first stage has its own model
folder with lock, checkpoints, record and validation, so that whatever stops it costs no more than
it would in any run, and a later training of the second stage finds it finished.

How many epochs each stage has. Where the loss is nnU-Net's (``2d``), the recipe's epochs, or those
of the command line, are what the whole training may take beside other trainers: the first stage
takes half of them, rounded down, the second the rest; both take at least one. In the paper's recipe
(``2d_paper``) each stage has its own number.

What ``encoder_weights`` means here: ``"paper"``, ``"none"`` and a file of ImageNet's weights are
what the first stage's encoder starts from; the checkpoint of a first stage takes that stage's
place.

Overwriting keeps a first stage that is finished, unless it alone is to be trained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.errors import UserError
from nnmedseg.files import read_json
from nnmedseg.paths import Folders
from nnmedseg.trainers import default_plans_name, find_trainer
from nnmedseg.trainers.recipes import NNUNET_LOSS, Recipe
from nnmedseg.training import run
from nnmedseg.training.checkpoints import FINAL, RESUMABLE
from nnmedseg.training.first_stage import FirstStage, is_first_stage
from nnmedseg.training.pretrained import NONE, PAPER
from nnmedseg.training.settings import RUN_FILE, RunSettings

logger = logging.getLogger(__name__)

FIRST = 1
"""The stage that can be trained alone."""


def with_first_stages(trainers: Iterable[type[nnUNetTrainer]]) -> list[type[nnUNetTrainer]]:
    """Return trainers, before each the one that is its first stage, and none twice."""
    found: dict[type[nnUNetTrainer], None] = {}
    for trainer in trainers:
        first = _first_stage_of(trainer)
        found.update(dict.fromkeys([trainer] if first is None else [first, trainer]))
    return list(found)


def divided(epochs: int) -> tuple[int, int]:
    """Return the epochs of the first and the second of two stages that share them."""
    first = epochs // 2
    return max(1, first), max(1, epochs - first)


def train(
    settings: RunSettings,
    *,
    folders: Folders,
    device: torch.device,
    overwrite: bool = False,
    must_continue: bool = False,
    stage: int | None = None,
) -> Path:
    """Train one fold, in two stages where the trainer has them; see `run.train`.

    Args:
        settings: What to train; of the last stage.
        folders: Where preprocessed data are and results go.
        device: Where to train.
        overwrite: Delete what an earlier run with the same name has left.
        must_continue: Refuse to start from the beginning.
        stage: 1 to train the first stage alone, or ``None`` for all that the trainer has.

    Returns:
        The fold's folder of the last stage that was trained.

    Raises:
        UserError: See `run.train`; or the trainer has one stage only and ``stage`` is given, or
            the first stage is given and to be trained.
    """
    first = _first_stage_of(find_trainer(settings.trainer_name))
    if first is None:
        if stage is not None:
            raise UserError(
                f"{settings.trainer_name} is trained in one go",
                where=f"--stage {stage}",
                mend="leave --stage out",
            )
        return run.train(
            settings,
            folders=folders,
            device=device,
            overwrite=overwrite,
            must_continue=must_continue,
        )
    stages = _TwoStages.divide(settings, first, folders)
    if stage == FIRST:
        return stages.train_first(device, overwrite=overwrite, must_continue=must_continue)
    return stages.train_all(device, overwrite=overwrite, must_continue=must_continue)


@dataclass(frozen=True)
class _TwoStages:
    first: RunSettings
    second: RunSettings
    folders: Folders

    @classmethod
    def divide(
        cls, settings: RunSettings, first: type[nnUNetTrainer], folders: Folders
    ) -> _TwoStages:
        """Give each stage its settings, and say how many epochs it has."""
        before = replace(
            settings, trainer_name=first.__name__, plans_name=default_plans_name(first)
        )
        recipes = [_recipe(each, folders) for each in (before, settings)]
        if recipes[-1].loss == NNUNET_LOSS:
            whole = recipes[-1].epochs
            epochs = divided(whole)
            is_whole = sum(epochs) == whole
            reason = f"together the recipe's {whole}" if is_whole else "the least there can be"
        else:
            epochs = recipes[0].epochs, recipes[1].epochs
            reason = "in the paper's recipe each stage has its own"
        logger.info(
            "Two stages: %s for %d epoch(s), then %s for %d; %s",
            before.trainer_name, epochs[0], settings.trainer_name, epochs[1], reason,
        )  # fmt: skip
        return cls(
            replace(before, recipe={**settings.recipe, "epochs": epochs[0]}),
            replace(settings, recipe={**settings.recipe, "epochs": epochs[1]}),
            folders,
        )

    def train_first(self, device: torch.device, *, overwrite: bool, must_continue: bool) -> Path:
        """Train the first stage alone."""
        given = self._given()
        if given is not None:
            raise UserError(
                "this first stage has been trained already",
                where=given,
                mend="leave --stage out to train the second stage from it",
            )
        return run.train(
            self.first,
            folders=self.folders,
            device=device,
            overwrite=overwrite,
            must_continue=must_continue,
        )

    def train_all(self, device: torch.device, *, overwrite: bool, must_continue: bool) -> Path:
        """Train what is not trained yet of both stages."""
        output = self.second.output_folder(self.folders)
        results = output.parents[1]
        if not overwrite and _has_begun(output):
            first_stage = _recorded(output)
        else:
            checkpoint = self._given()
            if checkpoint is None:
                checkpoint = self._trained(device, overwrite, must_continue)
                must_continue = False  # it has been looked for in the first stage
            first_stage = FirstStage.of_file(checkpoint, results)
        return run.train(
            replace(self.second, first_stage=first_stage),
            folders=self.folders,
            device=device,
            overwrite=overwrite,
            must_continue=must_continue,
        )

    def _given(self) -> Path | None:
        """Return the first stage that the user has named, if any."""
        choice = self.second.encoder_weights
        if choice in (PAPER, NONE) or not is_first_stage(Path(choice)):
            return None
        return Path(choice)

    def _trained(self, device: torch.device, overwrite: bool, must_continue: bool) -> Path:
        """Train the first stage unless it is finished, and return its checkpoint."""
        checkpoint = self.first.output_folder(self.folders) / FINAL
        with _said_of_first_stage(checkpoint):
            run.train(
                self.first,
                folders=self.folders,
                device=device,
                overwrite=overwrite and not checkpoint.is_file(),
                must_continue=must_continue,
            )
        return checkpoint


def _first_stage_of(trainer: type[nnUNetTrainer]) -> type[nnUNetTrainer] | None:
    return getattr(trainer, "first_stage", None)


def _recipe(settings: RunSettings, folders: Folders) -> Recipe:
    trainer = find_trainer(settings.trainer_name)
    return run.recipe_of(trainer, settings.resolved_plans(folders), settings)


def _has_begun(output: Path) -> bool:
    return any((output / name).is_file() for name in RESUMABLE)


def _recorded(output: Path) -> FirstStage | None:
    """Return what a run that goes on has started from, as its record says."""
    record = output / RUN_FILE
    recorded = read_json(record).get("first_stage") if record.is_file() else None
    return None if recorded is None else FirstStage(**recorded)


@contextmanager
def _said_of_first_stage(checkpoint: Path) -> Iterator[None]:
    """Make the advice of an error fit a command that trains both stages."""
    try:
        yield
    except UserError as error:
        if "--overwrite" not in (error.mend or ""):
            raise
        mend = str(error.mend).replace("--overwrite", "--stage 1 --overwrite")
        if checkpoint.is_file():
            mend += f"; or start from it as it is: --encoder-weights {checkpoint}"
        raise UserError(error.what, where=error.where, mend=mend) from error
