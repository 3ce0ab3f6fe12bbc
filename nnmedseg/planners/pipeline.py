"""Fingerprint, plans for every architecture, and one preprocessing for all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json
from nnmedseg.nnunet import captured_output
from nnmedseg.paths import Folders
from nnmedseg.planners.architecture import Architecture
from nnmedseg.planners.fingerprint import extract_fingerprint
from nnmedseg.planners.integrity import require_integrity
from nnmedseg.planners.planner import MedSegPlanner
from nnmedseg.planners.preprocessing import preprocess
from nnmedseg.planners.table import describe_plans, read_configurations

logger = logging.getLogger(__name__)


def plan(
    dataset_name: str,
    architectures: Sequence[Architecture],
    *,
    folders: Folders,
    gpu_memory: float,
    working_size: int | None,
    num_workers: int,
    verify: bool = True,
) -> list[Path]:
    """Plan a data set for each architecture.

    Args:
        dataset_name: ``DatasetNNN_Name`` of a converted data set.
        architectures: What to plan for.
        folders: Where raw and preprocessed data are.
        gpu_memory: Memory that a training step may use, in GiB.
        working_size: Shorter side of photographs in pixels, or ``None`` for the rule's choice.
        num_workers: Cases that are worked on at once.
        verify: Check every raw file first, unless that was done and no file has changed.

    Returns:
        The plans files.

    Raises:
        UserError: The data set is not there, its verification finds errors, its split has changed,
            or a plans file that is not ours would be replaced.
    """
    _check_raw(folders, dataset_name)
    base = folders.preprocessed / dataset_name
    plans_files = [base / f"{architecture.plans_name}.json" for architecture in architectures]
    for plans_file in plans_files:
        _check_ours(plans_file)
    if verify:
        require_integrity(folders, dataset_name, num_workers)
    _check_split(folders, dataset_name)
    extract_fingerprint(dataset_name, num_workers, folders=folders)
    for architecture in architectures:
        planner = MedSegPlanner(dataset_name, architecture, gpu_memory, working_size)
        with captured_output(logger):
            planner.plan_experiment()
    for line in describe_plans(plans_files):
        logger.info("%s", line)
    return plans_files


def preprocess_configurations(
    dataset_name: str,
    plans_files: Sequence[Path],
    configurations: Sequence[str],
    *,
    folders: Folders,
    num_workers: int,
) -> None:
    """Preprocess a data set once for each resolution that the configurations name.

    Args:
        dataset_name: ``DatasetNNN_Name`` of a planned data set.
        plans_files: Its plans.
        configurations: Names of configurations; plans that lack one are passed over.
        folders: Where raw and preprocessed data are.
        num_workers: Cases that are worked on at once.

    Raises:
        NotFoundError: No plans have a configuration of that name.
    """
    done: set[str] = set()
    for configuration in configurations:
        identifiers = {
            plans_file: present[configuration]["data_identifier"]
            for plans_file in plans_files
            if configuration in (present := read_configurations(plans_file))
        }
        if not identifiers:
            known = {name for file in plans_files for name in read_configurations(file)}
            raise NotFoundError(
                f"no plans of {dataset_name} have a configuration {configuration!r}",
                where="-c",
                mend=f"use some of: {', '.join(sorted(known))}",
            )
        for plans_file, identifier in identifiers.items():
            if identifier not in done:
                done.add(identifier)
                preprocess(
                    dataset_name,
                    plans_file.stem,
                    configuration,
                    folders=folders,
                    num_workers=num_workers,
                )


def _check_raw(folders: Folders, dataset_name: str) -> None:
    description = folders.raw / dataset_name / "dataset.json"
    if not description.is_file():
        raise NotFoundError(
            "the data set has no dataset.json",
            where=description,
            mend="convert it (again): nnmedseg_convert --list shows the data sets",
        )


def _check_ours(plans_file: Path) -> None:
    """Refuse to replace a plans file that nnU-Net's own planning, or someone else's, has made."""
    if not plans_file.is_file():
        return
    made_by = read_json(plans_file).get("experiment_planner_used")
    if made_by != MedSegPlanner.__name__:
        raise UserError(
            f"these plans were made by {made_by} and would be replaced",
            where=plans_file,
            mend="rename or delete the file (trained models keep a copy of their own), "
            "or leave its trainer out with -tr",
        )


def _check_split(folders: Folders, dataset_name: str) -> None:
    """Refuse a split that differs from the one that models may already have been trained with."""
    converted = folders.raw / dataset_name / "splits_final.json"
    present = folders.preprocessed / dataset_name / "splits_final.json"
    if converted.is_file() and present.is_file() and read_json(converted) != read_json(present):
        raise UserError(
            "the split of the raw data differs from the one that is in use",
            where=present,
            mend="delete that file (models trained with it then no longer compare), "
            "or put it beside dataset.json in the raw folder to keep it",
        )
