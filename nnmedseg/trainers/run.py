"""One training run: started, resumed or found to be complete."""

from __future__ import annotations

import datetime
import errno
import logging
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.cores import cpu_count
from nnmedseg.data.splits import SPLITS_FILE
from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.locks import locked
from nnmedseg.paths import Folders
from nnmedseg.trainers import find_trainer
from nnmedseg.trainers.base import MedSegTrainer, apply_recipe, set_iterations
from nnmedseg.trainers.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    PREVIOUS,
    RESUMABLE,
    newest_readable,
    remove_unfinished,
)
from nnmedseg.trainers.interruption import Interrupted, interruptible
from nnmedseg.trainers.recipes import NNUNET, SETTINGS_OF_ANY_TRAINER, Recipe
from nnmedseg.trainers.reliable import reliable
from nnmedseg.trainers.settings import RUN_FILE, RunSettings

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def train(
    settings: RunSettings,
    *,
    folders: Folders,
    device: torch.device,
    overwrite: bool = False,
    must_continue: bool = False,
) -> Path:
    """Train one fold and validate it. Run again, it goes on where it was interrupted.

    Args:
        settings: What to train.
        folders: Where preprocessed data are and results go.
        device: Where to train.
        overwrite: Delete what an earlier run with the same name has left.
        must_continue: Refuse to start from the beginning.

    Returns:
        The fold's folder.

    Raises:
        UserError: The plans, the data or the trainer are missing, an earlier run in the same folder
            had other settings or another split, another process trains this fold, or the disk is
            full.
        WeightsError: The earlier run has left checkpoints, and none can be read.
        Interrupted: A signal has asked to end.
    """
    trainer_class = reliable(find_trainer(settings.trainer_name))
    plans = settings.resolved_plans(folders)
    output = settings.output_folder(folders)
    record = settings.record(recipe_of(trainer_class, plans, settings), folders)
    with interruptible(), locked(output, "trained"), _full_disk_explained(output):
        if overwrite and output.is_dir():
            shutil.rmtree(output)
        _check_same_settings(output, record)
        remove_unfinished(output)
        if (output / FINAL).is_file() and (output / "validation" / "summary.json").is_file():
            logger.info("Already trained and validated: %s (--overwrite trains anew)", output)
            return output
        checkpoint = _find_checkpoint(output, must_continue=must_continue)
        _set_threads(device, settings.seed)
        plans["continue_training"] = checkpoint is not None
        trainer = _construct(trainer_class, plans, settings, folders, device)
        write_json({**record, **_circumstances(device)}, output / RUN_FILE)
        with _cleanly_ended(trainer):
            _run(trainer, checkpoint)
    return output


def _find_checkpoint(output: Path, *, must_continue: bool) -> Path | None:
    """Return what to go on from, and say so.

    Raises:
        NotFoundError: There is nothing, but there must be.
    """
    found = newest_readable(output)
    if found is None:
        if must_continue:
            raise NotFoundError(
                "there is no checkpoint to continue from",
                where=output,
                mend="leave --continue out to start training",
            )
        if (output / BEST).is_file():
            logger.info("Starting anew: %s is not the state of a whole run", output / BEST)
        return None
    path, content = found
    if path.name == FINAL:
        logger.info("Already trained, validating: %s", output)
    else:
        logger.info("Resuming after epoch %d from %s", content["current_epoch"], path)
    if path.name == PREVIOUS:
        # A damaged latest one must not become the previous one when the next is saved.
        path = path.replace(path.with_name(LATEST))
    return path


def _run(trainer: nnUNetTrainer, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
    if checkpoint is None or checkpoint.name != FINAL:
        trainer.run_training()
    trainer.perform_actual_validation()


@contextmanager
def _cleanly_ended(trainer: nnUNetTrainer) -> Iterator[None]:
    """Leave no data-loading process behind, and say at an interruption what comes next."""
    try:
        yield
    except Interrupted as error:
        done, epochs = trainer.current_epoch, trainer.num_epochs
        goes_on = f"after epoch {done}" if done < epochs else "with the validation"
        logger.warning("Stopped by %s; the same command goes on %s", error.name, goes_on)
        raise
    finally:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()


@contextmanager
def _full_disk_explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"the disk is full: {error}; the checkpoints that are there are kept",
            where=output,
            mend="make room on the disk, then run the same command again: it goes on from the last "
            "checkpoint",
        ) from error


def recipe_of(
    trainer_class: type[nnUNetTrainer], plans: dict[str, Any], settings: RunSettings
) -> Recipe:
    """Return a run's recipe: the trainer's, changed by the plans, which hold the settings."""
    base = trainer_class.recipe if issubclass(trainer_class, MedSegTrainer) else NNUNET
    return base.changed(plans["configurations"][settings.configuration]["nnmedseg"]["recipe"])


def _check_same_settings(output: Path, record: dict[str, Any]) -> None:
    """Compare a run with the one whose checkpoints lie in its folder.

    Raises:
        UserError: The earlier run had other settings or another split.
    """
    if not any((output / name).is_file() for name in (*RESUMABLE, BEST)):
        return
    earlier = read_json(output / RUN_FILE) if (output / RUN_FILE).is_file() else {}
    different = [key for key, value in record.items() if earlier.get(key, value) != value]
    if different == ["split_sha256"]:
        raise UserError(
            f"{SPLITS_FILE} has changed since this fold was trained: what was held out then may be "
            "trained on now",
            where=output,
            mend=f"put the earlier {SPLITS_FILE} back into the folder of preprocessed data to go "
            "on, or --overwrite to delete this fold and train anew",
        )
    if different:
        changes = "; ".join(f"{key} was {earlier[key]}, is {record[key]}" for key in different)
        raise UserError(
            f"this fold was trained with other settings: {changes}",
            where=output,
            mend="give the same settings to go on, or --overwrite to delete it and train anew",
        )


def _construct(
    trainer_class: type[nnUNetTrainer],
    plans: dict[str, Any],
    settings: RunSettings,
    folders: Folders,
    device: torch.device,
) -> nnUNetTrainer:
    dataset_json = read_json(folders.preprocessed / settings.dataset_name / "dataset.json")
    trainer = trainer_class(
        plans=plans,
        configuration=settings.configuration,
        fold=settings.fold,
        dataset_json=dataset_json,
        device=device,
    )
    if not isinstance(trainer, MedSegTrainer):
        # nnU-Net's own trainers know nothing of recipes in plans: their numbers are attributes.
        _check_understood(trainer_class, settings)
        recipe = recipe_of(trainer_class, plans, settings)
        apply_recipe(trainer, recipe)
        set_iterations(trainer, recipe)
    return trainer


def _check_understood(trainer_class: type[nnUNetTrainer], settings: RunSettings) -> None:
    """Refuse what one of nnU-Net's own trainers would pass over.

    Raises:
        UserError: Another loss, optimiser, schedule or augmentation is asked for.
    """
    passed_over = sorted(set(settings.recipe) - set(SETTINGS_OF_ANY_TRAINER))
    if passed_over:
        raise UserError(
            f"{trainer_class.__name__} has its own {', '.join(passed_over)}",
            where="-tr",
            mend=f"of the recipe, it takes only: {', '.join(SETTINGS_OF_ANY_TRAINER)}",
        )


def _set_threads(device: torch.device, seed: int | None) -> None:
    """Share the cores between the network and the data loaders; a seed asks for one loader."""
    if device.type == "cpu":
        torch.set_num_threads(cpu_count())
        # The network itself uses all cores: more than a few loaders would only slow it down.
        os.environ["nnUNet_n_proc_DA"] = str(max(1, cpu_count() // 4))
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = seed is None
        torch.backends.cudnn.deterministic = seed is not None
    if seed is not None:
        os.environ["nnUNet_n_proc_DA"] = "0"
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the augmentation draws from the global generator
        torch.manual_seed(seed)


def _circumstances(device: torch.device) -> dict[str, Any]:
    """Return what else a reader of the model folder wants to know."""
    from importlib.metadata import version  # noqa: PLC0415 - only here

    return {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "versions": {name: version(name) for name in ("nnmedseg", "nnunetv2", "torch")},
    }
