"""Preprocessing case by case: resumable, each case whole or absent, in one process with threads."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nnmedseg.allocation import reuse_freed_memory
from nnmedseg.cores import one_thread_each
from nnmedseg.data.store import FILE_ENDING, VERSION, StoredCase
from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.files import atomic_path, read_json, write_json
from nnmedseg.nnunet.listing import list_training_cases
from nnmedseg.nnunet.photograph_preprocessing import why_not_by_tables
from nnmedseg.nnunet.plans_files import resolved_configuration
from nnmedseg.paths import Folders
from nnmedseg.planners._photograph_case import write_photograph_case
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

STORE_OF_BYTES = "uint8"

# What the preprocessed arrays depend on, besides the raw data. How large patches are is not among
# them, nor is what only some normalisations look at.
DECISIVE_KEYS = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)
NORMALISED_BY_DATASET = "CTNormalization"
TEMPORARY_PREFIX = ".writing-"

Case = Mapping[str, Any]


def preprocess(
    dataset_name: str, plans_name: str, configuration: str, *, folders: Folders, num_workers: int
) -> Path:
    """Preprocess the training cases of a data set and copy their masks, where that is not yet done.

    Args:
        dataset_name: ``DatasetNNN_Name``.
        plans_name: Plans file without its ending.
        configuration: Configuration in it.
        folders: Where raw and preprocessed data are.
        num_workers: Threads; as many cases are in memory at once.

    Returns:
        The folder with the preprocessed arrays.

    Raises:
        DataError: A file cannot be read or does not fit the others.
        NotFoundError: The plans have no such configuration.
    """
    raw, base = folders.raw / dataset_name, folders.preprocessed / dataset_name
    plans_file = base / f"{plans_name}.json"
    plans = read_json(plans_file)
    settings = _configuration_of(plans, configuration, plans_file)
    dataset_json = read_json(raw / "dataset.json")
    cases = list_training_cases(raw, dataset_json)
    target = base / settings["data_identifier"]
    as_bytes = _is_stored_as_bytes(plans, settings)
    stamp = _stamp(plans, settings, dataset_json, as_bytes=as_bytes)
    _discard_if_outdated(target, {**stamp, "files": _hash_of_files(cases, raw)})
    present = set(_finished_photographs(target) if as_bytes else _finished_arrays(target))
    pending = {name: case for name, case in cases.items() if name not in present}
    if pending:
        if as_bytes:
            write = _photograph_writer(target, settings, dataset_json)
        else:
            write = _array_writer(target, plans, configuration, dataset_json)
        _write_all(write, pending, num_workers)
    logger.info("Preprocessed: %d cases in %s (%d were new)", len(cases), target, len(pending))
    _copy_masks(cases, base / "gt_segmentations", dataset_json["file_ending"])
    return target


def _write_all(
    write: Callable[[str, Case], None], cases: Mapping[str, Case], num_workers: int
) -> None:
    reuse_freed_memory()
    with one_thread_each(), ThreadPoolExecutor(num_workers) as pool:
        try:
            done = pool.map(write, cases.keys(), cases.values())
            for _ in track(done, "Preprocessing", len(cases)):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _configuration_of(plans: Mapping[str, Any], name: str, plans_file: Path) -> dict[str, Any]:
    configurations = plans["configurations"]
    if name not in configurations:
        raise NotFoundError(
            f"there is no configuration {name}; there are: {', '.join(configurations)}",
            where=plans_file,
            mend="choose one of these with -c, or plan again",
        )
    return resolved_configuration(configurations, name)


def _is_stored_as_bytes(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> bool:
    if configuration.get("nnmedseg", {}).get("store") != STORE_OF_BYTES:
        return False
    reason = why_not_by_tables(plans, configuration)
    if reason is not None:
        logger.info("The images are stored as nnU-Net stores them, because of %s", reason)
    return reason is None


def _photograph_writer(
    target: Path, configuration: Mapping[str, Any], dataset_json: Mapping[str, Any]
) -> Callable[[str, Case], None]:
    def write(name: str, case: Case) -> None:
        with atomic_path(target / f"{name}{FILE_ENDING}", durable=False) as temporary:
            write_photograph_case(temporary, case, configuration, dataset_json)

    return write


def _array_writer(
    target: Path, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> Callable[[str, Case], None]:
    """Return what writes the three files of nnU-Net's store, the one that marks it as done last."""
    # Photographs are spared these imports: they take longer than a small data set.
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    from nnmedseg.nnunet.registration import register  # noqa: PLC0415
    from nnmedseg.planners._volume_case import write_volume_case  # noqa: PLC0415

    register()
    manager = PlansManager(plans)
    settings = manager.get_configuration(configuration)

    def write(name: str, case: Case) -> None:
        temporary = target / f"{TEMPORARY_PREFIX}{name}"
        write_volume_case(temporary, dict(case), manager, settings, dataset_json)
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            Path(f"{temporary}{ending}").replace(target / f"{name}{ending}")

    return write


def _finished_photographs(target: Path) -> Iterator[str]:
    """Go through the cases that are there; a damaged one is not."""
    for path in target.glob(f"*{FILE_ENDING}"):
        try:
            StoredCase(path)
        except DataError:
            continue
        yield path.stem


def _finished_arrays(target: Path) -> Iterator[str]:
    """Go through the cases that are there, and delete what is left of others."""
    finished = {path.stem for path in target.glob("*.pkl")}
    for array in target.glob("*.b2nd"):
        if array.stem.removesuffix("_seg") not in finished and array.stem not in finished:
            array.unlink()
    yield from finished


def _stamp(
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    *,
    as_bytes: bool,
) -> dict[str, Any]:
    """Return what decides the content of the preprocessed arrays, but for the raw files."""
    decisive = {key: configuration[key] for key in DECISIVE_KEYS}
    decisive["transpose_forward"] = plans["transpose_forward"]
    decisive["labels"] = dataset_json["labels"]
    decisive["input"] = configuration.get("nnmedseg", {}).get("input")
    decisive["store"] = f"{STORE_OF_BYTES} {VERSION}" if as_bytes else "blosc2"
    if NORMALISED_BY_DATASET in configuration["normalization_schemes"]:
        statistics = plans["foreground_intensity_properties_per_channel"]
        text = json.dumps(statistics, sort_keys=True)
        decisive["intensities"] = hashlib.sha256(text.encode()).hexdigest()
    return decisive


def _hash_of_files(cases: Mapping[str, Case], raw: Path) -> str:
    """Hash names, sizes and times of the files of all cases, which notices any change."""
    facts = []
    for case in cases.values():
        for path in (*case["images"], case["label"]):
            try:
                status = Path(path).stat()
            except OSError as error:
                raise DataError(
                    f"a file of the data set cannot be read: {error.strerror}",
                    where=path,
                    mend="convert the data set again",
                ) from error
            facts.append((os.path.relpath(path, raw), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _discard_if_outdated(target: Path, stamp: dict[str, Any]) -> None:
    """Empty the folder if it was made from other data or settings, and of interrupted writes."""
    stamp_file = target.with_name(f"{target.name}.stamp.json")
    if target.is_dir() and (not stamp_file.is_file() or read_json(stamp_file) != stamp):
        logger.info("Data or settings have changed, preprocessing anew: %s", target)
        shutil.rmtree(target)
    target.mkdir(parents=True, exist_ok=True)
    write_json(stamp, stamp_file)
    for leftover in target.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink()


def _copy_masks(cases: Mapping[str, Case], target: Path, file_ending: str) -> None:
    """Copy the masks, so that validation needs no raw data (a cluster may have only these)."""
    for name, case in cases.items():
        copy = target / f"{name}{file_ending}"
        source = Path(case["label"])
        if copy.is_file() and copy.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        with atomic_path(copy, durable=False) as temporary:
            shutil.copy2(source, temporary)
