"""nnU-Net's preprocessing case by case: resumable, each case whole or absent, in one process."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnmedseg.files import atomic_path, read_json, write_json
from nnmedseg.paths import Folders
from nnmedseg.planners.fingerprint import FINGERPRINT_FILE
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

# What the preprocessed arrays depend on, besides the raw data.
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
TEMPORARY_PREFIX = ".writing-"


@dataclass(frozen=True)
class _Task:
    """One data set in one configuration."""

    plans: PlansManager
    configuration: Any
    dataset_json: dict[str, Any]
    target: Path

    def run(self, name: str, case: dict[str, Any]) -> None:
        """Preprocess a case and write its three files, the one that marks it as done last."""
        preprocessor = DefaultPreprocessor(verbose=False)
        temporary = self.target / f"{TEMPORARY_PREFIX}{name}"
        preprocessor.run_case_save(
            str(temporary),
            case["images"],
            case["label"],
            self.plans,
            self.configuration,
            self.dataset_json,
        )
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            Path(f"{temporary}{ending}").replace(self.target / f"{name}{ending}")


def preprocess(
    dataset_name: str, plans_name: str, configuration: str, *, folders: Folders, num_workers: int
) -> Path:
    """Preprocess the training cases of a data set and copy their masks, where that is not yet done.

    Args:
        dataset_name: ``DatasetNNN_Name``.
        plans_name: Plans file without its ending.
        configuration: Configuration in it.
        folders: Where raw and preprocessed data are.
        num_workers: Threads.

    Returns:
        The folder with the preprocessed arrays.
    """
    raw, base = folders.raw / dataset_name, folders.preprocessed / dataset_name
    plans = PlansManager(str(base / f"{plans_name}.json"))
    settings = plans.get_configuration(configuration)
    dataset_json = read_json(raw / "dataset.json")
    cases = get_filenames_of_train_images_and_targets(str(raw), read_json(raw / "dataset.json"))
    target = base / settings.data_identifier
    _discard_if_outdated(target, _stamp(settings.configuration, base))
    pending = [name for name in cases if not (target / f"{name}.pkl").is_file()]
    if pending:
        task = _Task(plans, settings, dataset_json, target)
        with ThreadPoolExecutor(num_workers) as pool:
            done = pool.map(lambda name: task.run(name, cases[name]), pending)
            for _ in track(done, "Preprocessing", len(pending)):
                pass
    logger.info("Preprocessed: %d cases in %s (%d were new)", len(cases), target, len(pending))
    _copy_masks(cases, base / "gt_segmentations", dataset_json["file_ending"])
    return target


def _stamp(configuration: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return what decides the content of the preprocessed arrays."""
    fingerprint = read_json(base / FINGERPRINT_FILE)
    text = json.dumps(fingerprint, sort_keys=True)
    decisive = {key: configuration[key] for key in DECISIVE_KEYS}
    decisive["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()
    decisive["store"] = nnUNetDatasetBlosc2.__name__
    return decisive


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
    finished = {path.stem for path in target.glob("*.pkl")}
    for array in target.glob("*.b2nd"):
        if array.stem.removesuffix("_seg") not in finished:
            array.unlink()


def _copy_masks(cases: dict[str, Any], target: Path, file_ending: str) -> None:
    """Copy the masks, so that validation needs no raw data (a cluster may have only these)."""
    for name, case in cases.items():
        copy = target / f"{name}{file_ending}"
        source = Path(case["label"])
        if copy.is_file() and copy.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        with atomic_path(copy) as temporary:
            shutil.copy2(source, temporary)
