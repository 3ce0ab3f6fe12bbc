"""Fingerprint, plans for every architecture, and one preprocessing for all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json
from nnmedseg.nnunet import captured_output
from nnmedseg.paths import Folders
from nnmedseg.planners.fingerprint import FastFingerprintExtractor
from nnmedseg.planners.integrity import require_integrity
from nnmedseg.planners.planner import CONFIGURATION, Architecture, MedSegPlanner
from nnmedseg.planners.preprocessing import preprocess

logger = logging.getLogger(__name__)


def plan_and_preprocess(
    dataset_name: str,
    architectures: Sequence[Architecture],
    *,
    folders: Folders,
    gpu_memory: float,
    working_size: int | None,
    num_workers: int,
) -> list[Path]:
    """Plan a data set for each architecture and preprocess it once for each resolution.

    Args:
        dataset_name: ``DatasetNNN_Name`` of a converted data set.
        architectures: What to plan for.
        folders: Where raw and preprocessed data are.
        gpu_memory: Memory that a training step may use, in GiB.
        working_size: Shorter side of the median natural image in pixels, or ``None``.
        num_workers: Cases that are worked on at once.

    Returns:
        The plans files.

    Raises:
        UserError: The data set is not there, its verification finds errors, or its split has
            changed.
    """
    _check_raw(folders, dataset_name)
    require_integrity(folders, dataset_name, num_workers)
    _check_split(folders, dataset_name)
    FastFingerprintExtractor(dataset_name, num_workers).run()
    plans_files = []
    for architecture in architectures:
        planner = MedSegPlanner(dataset_name, architecture, gpu_memory, working_size)
        with captured_output(logger):
            plans = planner.plan_experiment()
        _report(architecture.plans_name, plans["configurations"][CONFIGURATION])
        plans_files.append(folders.preprocessed / dataset_name / f"{architecture.plans_name}.json")
    for plans_name in _one_plan_for_each_resolution(plans_files):
        preprocess(
            dataset_name, plans_name, CONFIGURATION, folders=folders, num_workers=num_workers
        )
    return plans_files


def _check_raw(folders: Folders, dataset_name: str) -> None:
    description = folders.raw / dataset_name / "dataset.json"
    if not description.is_file():
        raise NotFoundError(
            "the data set has no dataset.json",
            where=description,
            mend="convert it (again): nnmedseg_convert --list shows the data sets",
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


def _report(plans_name: str, configuration: dict) -> None:
    details = configuration["nnmedseg"]
    memory = details.get("predicted_memory_gib")
    height, width = configuration["patch_size"]
    logger.info(
        "%s: patch %dx%d, batch %d%s",
        plans_name,
        height,
        width,
        configuration["batch_size"],
        "" if memory is None else f", about {memory:.1f} GiB in training",
    )
    if "resolution" in details:
        logger.info("  %s", details["resolution"])


def _one_plan_for_each_resolution(plans_files: Sequence[Path]) -> list[str]:
    """Return the names of plans that together name every preprocessed folder once."""
    by_folder: dict[str, str] = {}
    for plans_file in plans_files:
        configuration = read_json(plans_file)["configurations"][CONFIGURATION]
        by_folder.setdefault(configuration["data_identifier"], plans_file.stem)
    return list(by_folder.values())
