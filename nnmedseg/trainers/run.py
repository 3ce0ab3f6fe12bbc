"""One training run: started, resumed or found to be complete."""

from __future__ import annotations

import datetime
import logging
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.cores import cpu_count
from nnmedseg.data.splits import SPLITS_FILE
from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.paths import Folders
from nnmedseg.trainers import find_trainer
from nnmedseg.trainers.base import MedSegTrainer, apply_recipe
from nnmedseg.trainers.recipes import NNUNET
from nnmedseg.trainers.settings import RUN_FILE, RunSettings

logger = logging.getLogger(__name__)

FINAL_CHECKPOINT = "checkpoint_final.pth"
RESUMABLE_CHECKPOINTS = (FINAL_CHECKPOINT, "checkpoint_latest.pth", "checkpoint_best.pth")


def train(
    settings: RunSettings, *, folders: Folders, device: torch.device, overwrite: bool = False
) -> Path:
    """Train one fold and validate it. Run again, it goes on where it was interrupted.

    Args:
        settings: What to train.
        folders: Where preprocessed data are and results go.
        device: Where to train.
        overwrite: Delete what an earlier run with the same name has left.

    Returns:
        The fold's folder.

    Raises:
        UserError: The plans, the data or the trainer are missing, or an earlier run in the same
            folder had other settings or another split.
    """
    trainer_class = find_trainer(settings.trainer_name)
    plans = settings.resolved_plans(folders)
    output = settings.output_folder(folders)
    record = settings.record(_recipe_of(trainer_class, plans, settings), folders)
    if overwrite and output.is_dir():
        shutil.rmtree(output)
    checkpoint = _checkpoint_to_resume(output, record)
    if checkpoint is not None and checkpoint.name == FINAL_CHECKPOINT:
        if (output / "validation" / "summary.json").is_file():
            logger.info("Already trained and validated: %s (--overwrite trains anew)", output)
            return output
        logger.info("Already trained, validating: %s", output)
    elif checkpoint is not None:
        logger.info("Resuming from %s", checkpoint)
    _set_threads(device, settings.seed)
    plans["continue_training"] = checkpoint is not None
    trainer = _construct(trainer_class, plans, settings, folders, device)
    write_json({**record, **_circumstances(device)}, output / RUN_FILE)
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
    if checkpoint is None or checkpoint.name != FINAL_CHECKPOINT:
        trainer.run_training()
    trainer.perform_actual_validation()
    return output


def _recipe_of(
    trainer_class: type[nnUNetTrainer], plans: dict[str, Any], settings: RunSettings
) -> Any:
    base = trainer_class.recipe if issubclass(trainer_class, MedSegTrainer) else NNUNET
    return base.changed(plans["configurations"][settings.configuration]["nnmedseg"]["recipe"])


def _checkpoint_to_resume(output: Path, record: dict[str, Any]) -> Path | None:
    """Return the newest checkpoint of an earlier run with the same settings.

    Raises:
        UserError: The earlier run had other settings or another split.
    """
    present = [output / name for name in RESUMABLE_CHECKPOINTS if (output / name).is_file()]
    if not present:
        return None
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
    return present[0]


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
        apply_recipe(trainer, _recipe_of(trainer_class, plans, settings))
    return trainer


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
