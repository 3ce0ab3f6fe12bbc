"""nnU-Net's dataset fingerprint and what the choice of a resolution needs, in one pass."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnmedseg.allocation import reuse_freed_memory
from nnmedseg.cores import one_thread_each
from nnmedseg.data.fingerprint import IntensityStatistics
from nnmedseg.data.integrity import content_hash
from nnmedseg.errors import DataError
from nnmedseg.files import read_json, write_json
from nnmedseg.nnunet import captured_output
from nnmedseg.nnunet.listing import list_training_cases
from nnmedseg.nnunet.photographs import SPACING
from nnmedseg.paths import Folders
from nnmedseg.planners.case_fingerprint import CaseFingerprint, measure_photograph, measure_volume
from nnmedseg.planners.facts import FACTS_KEY
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

FINGERPRINT_FILE = "dataset_fingerprint.json"
VERSION = 1
"""Increased when something else is measured, so that fingerprints are extracted anew."""

T = TypeVar("T")
Result = TypeVar("Result")


def extract_fingerprint(
    dataset_name: str, num_workers: int, *, folders: Folders, overwrite: bool = False
) -> dict[str, Any]:
    """Write nnU-Net's fingerprint of a data set with what else the planning needs.

    The present one is taken while the raw data are the same. nnU-Net's class for this is not
    used: importing it imports PyTorch, which takes more memory than all the work.

    Args:
        dataset_name: ``DatasetNNN_Name``.
        num_workers: Cases that are worked on at once.
        folders: Where raw and preprocessed data are.
        overwrite: Extract it anew in any case.

    Returns:
        The content of ``dataset_fingerprint.json``.

    Raises:
        DataError: An image or its label cannot be read, or they do not fit each other.
    """
    raw, target = folders.raw / dataset_name, folders.preprocessed / dataset_name
    source = {"version": VERSION, "content": content_hash(raw)}
    if (target / FINGERPRINT_FILE).is_file() and not overwrite:
        present = read_json(target / FINGERPRINT_FILE)
        if source.items() <= present.get(FACTS_KEY, {}).items():
            logger.info("The fingerprint is up to date: %s", target / FINGERPRINT_FILE)
            return present
    fingerprint = _extract(raw, num_workers)
    fingerprint[FACTS_KEY] = {**source, **fingerprint[FACTS_KEY]}
    write_json(fingerprint, target / FINGERPRINT_FILE)
    return fingerprint


def _extract(raw: Path, num_workers: int) -> dict[str, Any]:
    dataset_json = read_json(raw / "dataset.json")
    cases = list_training_cases(raw, dataset_json)
    if not cases:
        raise DataError(
            "there are no training images", where=raw, mend="convert the data set again"
        )
    channels = dataset_json.get("channel_names") or dataset_json["modality"]
    merged = _Merged(len(channels), _names_of_labels(dataset_json))
    measure = _measurement(dataset_json, next(iter(cases.values())))
    reuse_freed_memory()
    with one_thread_each(), ThreadPoolExecutor(num_workers) as pool:
        measured = _in_order(pool, measure, cases.values(), num_workers)
        for name, case in zip(cases, track(measured, "Fingerprinting", len(cases)), strict=True):
            merged.add(name, case)
    return merged.fingerprint()


def _measurement(
    dataset_json: dict[str, Any], first: dict[str, Any]
) -> Callable[[dict[str, Any]], CaseFingerprint]:
    with captured_output(logger):
        reader = determine_reader_writer_from_dataset_json(
            dataset_json, first["images"][0], verbose=False
        )
    ignored = dataset_json["labels"].get("ignore")
    if reader is NaturalImage2DIO:
        return partial(measure_photograph, ignored=ignored)
    return lambda case: measure_volume(reader(), case, ignored)


def _names_of_labels(dataset_json: dict[str, Any]) -> dict[int, str]:
    """Return the names of labels; regions of several labels have none that fits one of them."""
    labels = dataset_json["labels"]
    return {label: name for name, label in labels.items() if isinstance(label, int)}


class _Merged:
    """The cases that have been measured so far, without their histograms."""

    def __init__(self, channels: int, names: dict[int, str]):
        self._names = names
        self._foreground = [IntensityStatistics() for _ in range(channels)]
        self._cases: list[CaseFingerprint] = []

    def add(self, name: str, case: CaseFingerprint) -> None:
        """Take a case into account.

        Raises:
            DataError: It has more or fewer channels than dataset.json names.
        """
        if len(case.foreground) != len(self._foreground):
            raise DataError(
                f"the image of case {name} has {len(case.foreground)} channels, dataset.json names "
                f"{len(self._foreground)}",
                where="dataset.json",
                mend="convert the data set again, or remove the case",
            )
        for statistics, distribution in zip(self._foreground, case.foreground, strict=True):
            statistics.add(distribution)
        self._cases.append(replace(case, foreground=[]))

    def fingerprint(self) -> dict[str, Any]:
        """Return the content of nnU-Net's file, and our own facts under a key of their own."""
        sizes = [np.prod(case.cropped_shape) / np.prod(case.shape) for case in self._cases]
        return {
            "spacings": [list(case.spacing) for case in self._cases],
            "shapes_after_crop": [list(case.cropped_shape) for case in self._cases],
            "foreground_intensity_properties_per_channel": {
                str(channel): statistics.summary()
                for channel, statistics in enumerate(self._foreground)
            },
            "median_relative_size_after_cropping": float(np.median(sizes)),
            FACTS_KEY: {
                "without_spacing": sum(_has_no_spacing(case) for case in self._cases),
                "eight_bit": all(case.eight_bit for case in self._cases),
                "image_sizes": [list(case.shape[-2:]) for case in self._cases],
                "foreground_shares": [case.foreground_share for case in self._cases],
                "spans": self._spans(),
                "colour": self._colour(),
            },
        }

    def _spans(self) -> dict[str, list[list[float]]]:
        labels = sorted({label for case in self._cases for label in case.spans})
        return {
            self._names.get(label, f"label {label}"): [
                case.spans.get(label, []) for case in self._cases
            ]
            for label in labels
        }

    def _colour(self) -> dict[str, list[float]]:
        """Return mean and standard deviation of each channel, each photograph weighing the same."""
        colours = np.array([case.colours for case in self._cases if case.colours])
        if not colours.size:
            return {"mean": [], "std": []}
        mean, mean_square = colours.mean(axis=0).T
        return {
            "mean": mean.tolist(),
            "std": np.sqrt(np.maximum(mean_square - mean**2, 0)).tolist(),
        }


def _has_no_spacing(case: CaseFingerprint) -> bool:
    return case.spacing == SPACING and case.shape[0] == 1


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[T], Result], items: Iterable[T], workers: int
) -> Iterator[Result]:
    """Yield the results in the order of the items, of which few are worked on or wait at a time."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > 2 * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
