"""One training run: started, resumed or found to be complete."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.data.splits import SPLITS_FILE
from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json
from nnmedseg.locks import locked
from nnmedseg.nnunet import captured_output
from nnmedseg.paths import Folders
from nnmedseg.trainers import find_trainer
from nnmedseg.trainers.base import MedSegTrainer, apply_recipe, set_iterations
from nnmedseg.trainers.recipes import NNUNET, SETTINGS_OF_ANY_TRAINER, Recipe
from nnmedseg.training.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    PREVIOUS,
    RESUMABLE,
    newest_readable,
    remove_unfinished,
)
from nnmedseg.training.group import (
    BACKENDS,
    check_batch_size,
    check_devices,
    from_first,
    in_group,
    joined,
)
from nnmedseg.training.guarding import GuardedTrainer
from nnmedseg.training.interruption import Interrupted, interruptible
from nnmedseg.training.launching import launch
from nnmedseg.training.place import Place, number_of_processes, place_from_environment
from nnmedseg.training.reliable import reliable
from nnmedseg.training.run_record import (
    RunRecord,
    circumstances,
    differences,
    plan_in_use,
    status_recorded,
)
from nnmedseg.training.settings import RUN_FILE, RunSettings
from nnmedseg.training.threads import set_threads
from nnmedseg.training.watching import WatchedTrainer

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job:
    """What is left to do for a run.

    Attributes:
        settings: What to train.
        folders: Where preprocessed data are and results go.
        record: What the run's settings are, for its folder.
        checkpoint: What to go on from, or ``None`` to begin.
    """

    settings: RunSettings
    folders: Folders
    record: Mapping[str, Any]
    checkpoint: Path | None


def train(
    settings: RunSettings,
    *,
    folders: Folders,
    device: torch.device,
    overwrite: bool = False,
    must_continue: bool = False,
) -> Path:
    """Train one fold and validate it. Run again, it goes on where it was interrupted.

    Started by ``torchrun``, this process is one of several that train together.

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
            had other settings or another split, another process trains this fold, the disk is
            full, or there are too few devices or images in a batch for so many processes.
        WeightsError: The earlier run has left checkpoints, and none can be read.
        Interrupted: A signal has asked to end.
    """
    place = place_from_environment()
    check_devices(device, settings.num_gpus)
    processes = number_of_processes(place, settings.num_gpus)
    with (
        _stop_explained(processes),
        interruptible(),
        joined(place, device) as own_device,
        ExitStack() as preparation,
    ):
        job = None
        if place.is_first:
            prepared = _prepared(
                settings, folders, processes, overwrite=overwrite, must_continue=must_continue
            )
            job = preparation.enter_context(prepared)
        job = from_first(job, place)
        if job is not None and settings.num_gpus > 1:
            launch(_train_here, job, device, settings.num_gpus)
        elif job is not None:
            _train_here(job, place, own_device)
    return settings.output_folder(folders)


@contextmanager
def _prepared(
    settings: RunSettings,
    folders: Folders,
    processes: int,
    *,
    overwrite: bool,
    must_continue: bool,
) -> Iterator[Job | None]:
    """Hold the fold's lock and find what is left to do: ``None`` where all is done."""
    trainer_class = reliable(find_trainer(settings.trainer_name))
    plans = settings.resolved_plans(folders)
    check_batch_size(plans["configurations"][settings.configuration]["batch_size"], processes)
    output = settings.output_folder(folders)
    record = settings.record(recipe_of(trainer_class, plans, settings), folders)
    with locked(output, "trained"), _full_disk_explained(output):
        if overwrite and output.is_dir():
            shutil.rmtree(output)
        _check_same_settings(output, record)
        remove_unfinished(output)
        if (output / FINAL).is_file() and (output / "validation" / "summary.json").is_file():
            logger.info("Already trained and validated: %s (--overwrite trains anew)", output)
            yield None
            return
        checkpoint = _find_checkpoint(output, must_continue=must_continue)
        if checkpoint is not None:
            _say_how_many(output, processes)
        yield Job(settings, folders, record, checkpoint)


def _say_how_many(output: Path, processes: int) -> None:
    """Say that a run goes on with another number of processes, which is allowed."""
    earlier = read_json(output / RUN_FILE).get("processes", 1)
    if earlier != processes:
        logger.info("Going on with %d process(es), begun with %d", processes, earlier)


def _train_here(job: Job, place: Place, device: torch.device) -> None:
    """Do a job in this process, which may be one of several."""
    settings = job.settings
    output = settings.output_folder(job.folders)
    set_threads(device, settings, place)
    plans = settings.resolved_plans(job.folders)
    plans["continue_training"] = job.checkpoint is not None
    with _full_disk_explained(output):
        trainer_class = reliable(find_trainer(settings.trainer_name))
        trainer = _construct(trainer_class, plans, settings, job.folders, device)
        record = _begun_record(job, trainer, place) if place.is_first else None
        _watch(trainer, settings, record)
        with _cleanly_ended(trainer), status_recorded(record, trainer.device):
            _run(trainer, job.checkpoint)


def _begun_record(job: Job, trainer: nnUNetTrainer, place: Place) -> RunRecord:
    record = RunRecord(Path(trainer.output_folder))
    processes = {
        "processes": place.size,
        "backend": BACKENDS[trainer.device.type] if place.size > 1 else None,
    }
    facts = circumstances(trainer.device, Path(trainer.preprocessed_dataset_folder))
    facts["plan"] = plan_in_use(trainer)
    record.begin({**job.record, **processes, **facts}, resumed=job.checkpoint is not None)
    return record


def _watch(trainer: nnUNetTrainer, settings: RunSettings, record: RunRecord | None) -> None:
    """Hand over what the run's settings say about watching and saving."""
    trainer.save_every = settings.save_every
    if isinstance(trainer, WatchedTrainer):
        trainer.val_every = settings.val_every
        trainer.panel_every = settings.panel_every
        trainer.trackers = settings.trackers
        trainer.run_record = record


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
    if isinstance(trainer, WatchedTrainer):
        trainer.note_validation()


@contextmanager
def _cleanly_ended(trainer: nnUNetTrainer) -> Iterator[None]:
    """Leave no data-loading process behind, and say at an interruption what comes next."""
    try:
        yield
    except Interrupted as error:
        done, epochs = trainer.current_epoch, trainer.num_epochs
        goes_on = f"after epoch {done}" if done < epochs else "with the validation"
        if not in_group():
            logger.warning("Stopped by %s; the same command goes on %s", error.name, goes_on)
        raise
    finally:
        if isinstance(trainer, WatchedTrainer):
            trainer.stop_watching(failed=sys.exc_info()[0] is not None)
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()


@contextmanager
def _stop_explained(processes: int) -> Iterator[None]:
    """Say at an interruption of several processes, each of which was somewhere, what comes next."""
    try:
        yield
    except Interrupted as error:
        if processes > 1:
            logger.warning("Stopped by %s; the same command goes on where it stopped", error.name)
        raise


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
    different = list(differences(earlier, record))
    if [name for name, _, _ in different] == ["split_sha256"]:
        raise UserError(
            f"{SPLITS_FILE} has changed since this fold was trained: what was held out then may be "
            "trained on now",
            where=output,
            mend=f"put the earlier {SPLITS_FILE} back into the folder of preprocessed data to go "
            "on, or --overwrite to delete this fold and train anew",
        )
    if different:
        changes = "; ".join(f"{name} was {was}, is {now}" for name, was, now in different)
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
    with captured_output(logger):
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
    if isinstance(trainer, GuardedTrainer):
        trainer.compile_network = settings.compile_network
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
    guarded = "precision" in settings.recipe or settings.compile_network is not None
    if guarded and not issubclass(trainer_class, GuardedTrainer):
        raise UserError(
            f"{trainer_class.__name__} saves and steps in its own way, which knows nothing of "
            "--precision and --compile",
            where="-tr",
            mend="leave these options out",
        )
