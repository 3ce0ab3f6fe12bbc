"""What a training run was asked to do, checked against what lies on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnmedseg.data.splits import SPLITS_FILE, hash_of_split_in
from nnmedseg.errors import NotFoundError, UserError, list_some
from nnmedseg.files import read_json
from nnmedseg.nnunet.plans_files import resolved_configuration
from nnmedseg.paths import Folders
from nnmedseg.trainers.recipes import Recipe, changed_settings
from nnmedseg.training.first_stage import FirstStage
from nnmedseg.training.pretrained import PAPER

RUN_FILE = "run.json"
"""What a fold's folder says about the run that made it."""

OFFICIAL_FOLD = (
    5  # after the five folds, converters write the release's own training/validation split
)


@dataclass(frozen=True)
class RunSettings:
    """One training run.

    Attributes:
        dataset_name: ``DatasetNNN_Name``.
        configuration: Configuration in the plans.
        fold: Index into ``splits_final.json`` or ``"all"``.
        trainer_name: Class name of the trainer.
        plans_name: Plans file without its ending.
        batch_size: Images in a batch instead of the plan's, or ``None``.
        recipe: Numbers of the recipe that differ from the plan's.
        seed: Makes the run repeatable, or ``None``.
        encoder_weights: ``"paper"``, ``"none"`` or a file.
        patch_size: Sides of the patches in pixels or voxels instead of the plan's, or ``None``.
        first_stage: What the second of two stages starts from; see
            :mod:`nnmedseg.training.stages`.
        num_gpus: Processes to start on this machine, one a device. A run may go on with another
            number.
        compile_network: Whether to compile the network, or ``None`` for the trainer's own choice.
        workers: Processes that load training data, or ``None`` to let the number of cores decide.
        val_every: Epochs from one validation on patches to the next.
        save_every: Epochs from one latest checkpoint to the next.
        panel_every: Epochs from one panel of validation images to the next; 0 for none.
        trackers: Where figures go besides the fold's folder; see
            :class:`nnmedseg.training.trackers.Tracking`.
    """

    dataset_name: str
    configuration: str
    fold: int | str
    trainer_name: str
    plans_name: str
    batch_size: int | None
    recipe: Mapping[str, Any]
    seed: int | None
    encoder_weights: str = PAPER
    patch_size: tuple[int, ...] | None = None
    first_stage: FirstStage | None = None
    num_gpus: int = 1
    compile_network: bool | None = None
    workers: int | None = None
    val_every: int = 1
    save_every: int = 1
    panel_every: int = 10
    trackers: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed is not None and self.workers:
            raise UserError(
                f"a repeatable run loads its data in one process, not in {self.workers} more",
                where="--workers",
                mend="leave out --workers, or --seed",
            )

    def output_folder(self, folders: Folders) -> Path:
        """Return the fold's folder, named as nnU-Net names it."""
        model = f"{self.trainer_name}__{self.plans_name}__{self.configuration}"
        return folders.results / self.dataset_name / model / f"fold_{self.fold}"

    def resolved_plans(self, folders: Folders) -> dict[str, Any]:
        """Return the plans with this run's settings written into its configuration.

        Raises:
            NotFoundError: There is no such plans file or configuration, or its data are missing.
        """
        base = folders.preprocessed / self.dataset_name
        plans = _read_plans(base, self.plans_name, self.dataset_name)
        configurations = plans["configurations"]
        if self.configuration not in configurations:
            raise NotFoundError(
                f"the plans have no configuration {self.configuration!r}",
                where=base / f"{self.plans_name}.json",
                mend=f"use one of: {', '.join(configurations)}",
            )
        configuration = deepcopy(resolved_configuration(configurations, self.configuration))
        ours = configuration.setdefault("nnmedseg", {})
        ours["recipe"] = changed_settings(ours.get("recipe", {}), self.recipe)
        ours["encoder_weights"] = self.encoder_weights
        if self.first_stage is not None:
            ours["first_stage"] = self.first_stage.as_planned()
        if self.batch_size is not None:
            configuration["batch_size"] = self.batch_size
        if self.patch_size is not None:
            _check_patch_size(self.patch_size, configuration)
            configuration["patch_size"] = list(self.patch_size)
        configurations[self.configuration] = configuration
        data = base / configuration["data_identifier"]
        if not data.is_dir():
            raise NotFoundError(
                "the data are planned but not preprocessed",
                where=data,
                mend=f"run: nnmedseg_plan_and_preprocess -d {int(self.dataset_name[7:10])} "
                f"-c {self.configuration}",
            )
        return plans

    def record(self, recipe: Recipe | None, folders: Folders) -> dict[str, Any]:
        """Return what decides the result of this run, as written into its folder.

        The hash of the split tells whether two runs trained and validated on the same cases.
        """
        record = {
            "dataset": self.dataset_name,
            "configuration": self.configuration,
            "fold": self.fold,
            "trainer": self.trainer_name,
            "plans": self.plans_name,
            "batch_size": self.batch_size,
            "patch_size": None if self.patch_size is None else list(self.patch_size),
            "recipe": recipe.to_dict() if recipe is not None else dict(self.recipe),
            "seed": self.seed,
            "encoder_weights": Path(self.encoder_weights).name,
            "split_sha256": hash_of_split_in(folders.preprocessed / self.dataset_name),
        }
        if self.first_stage is not None:
            record["first_stage"] = self.first_stage.as_recorded()
        return record


def _check_patch_size(patch_size: Sequence[int], configuration: Mapping[str, Any]) -> None:
    """Refuse patches that the configuration's network cannot take.

    Raises:
        UserError: They have other dimensions, or sides that the strides do not divide.
    """
    planned = configuration["patch_size"]
    if len(patch_size) != len(planned):
        raise UserError(
            f"the patches of this configuration have {len(planned)} sides, not {len(patch_size)}",
            where="--patch-size",
            mend=f"give {len(planned)} numbers; the plan has {' '.join(map(str, planned))}",
        )
    strides = configuration["architecture"]["arch_kwargs"]["strides"]
    divisors = [math.prod(along_axis) for along_axis in zip(*strides, strict=True)]
    if any(side % divisor for side, divisor in zip(patch_size, divisors, strict=True)):
        raise UserError(
            f"the network takes patches whose sides are multiples of "
            f"{' and '.join(map(str, divisors))}",
            where=f"--patch-size {' '.join(map(str, patch_size))}",
            mend="choose such sides; the plan has " + " ".join(map(str, planned)),
        )


def parse_fold(text: str, folders: Folders, dataset_name: str) -> int | str:
    """Return the fold as nnU-Net wants it: ``"all"`` or an index into the split file.

    nnU-Net takes an index beyond the file for a random split and says so in one line of many; here
    it is an error.

    Raises:
        UserError: The text is no fold of this data set.
    """
    if text == "all":
        return text
    splits_file = folders.preprocessed / dataset_name / SPLITS_FILE
    if not splits_file.is_file():
        raise NotFoundError(
            "the data set has no split yet",
            where=splits_file,
            mend=f"run: nnmedseg_plan_and_preprocess -d {int(dataset_name[7:10])}",
        )
    count = len(read_json(splits_file))
    has_official = count > OFFICIAL_FOLD
    if text == "official" and has_official:
        return OFFICIAL_FOLD
    if text.isdecimal() and int(text) < count:
        return int(text)
    choices = [*map(str, range(min(count, OFFICIAL_FOLD))), "all"]
    raise UserError(
        f"there is no fold {text!r} of {dataset_name}",
        where=splits_file,
        mend=f"use one of: {', '.join(choices + (['official'] if has_official else []))}",
    )


def _read_plans(base: Path, plans_name: str, dataset_name: str) -> dict[str, Any]:
    plans_file = base / f"{plans_name}.json"
    if not plans_file.is_file():
        present = sorted(path.stem for path in base.glob("*Plans*.json"))
        raise NotFoundError(
            f"there are no plans {plans_name} for {dataset_name}; "
            f"present: {list_some(present) or 'none'}",
            where=plans_file,
            mend=f"run: nnmedseg_plan_and_preprocess -d {int(dataset_name[7:10])}",
        )
    return read_json(plans_file)
