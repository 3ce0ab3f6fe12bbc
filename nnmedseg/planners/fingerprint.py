"""nnU-Net's dataset fingerprint, from exact histograms, in threads and without copies."""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnmedseg.data.fingerprint import Distribution, distribution_of, intensity_statistics
from nnmedseg.errors import DataError
from nnmedseg.files import read_json, write_json
from nnmedseg.nnunet import captured_output
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

FINGERPRINT_FILE = "dataset_fingerprint.json"


@dataclass(frozen=True)
class _CaseFingerprint:
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    distributions: list[Distribution | None]
    relative_size: float


class FastFingerprintExtractor(DatasetFingerprintExtractor):
    """Writes the file of nnU-Net's extractor, and reuses it while the raw data are the same."""

    def run(self, overwrite_existing: bool = False) -> dict[str, Any]:
        """Return the fingerprint, extracted anew if the raw data have changed since the last time.

        Raises:
            DataError: An image or mask cannot be read, or they do not fit each other.
        """
        target = Path(nnUNet_preprocessed.require()) / self.dataset_name / FINGERPRINT_FILE
        content = self._content_hash()
        if target.is_file() and not overwrite_existing:
            present = read_json(target)
            if present.get("nnmedseg", {}).get("content") == content:
                logger.info("The fingerprint is up to date: %s", target)
                return present
        fingerprint = {**self._extract(), "nnmedseg": {"content": content}}
        write_json(fingerprint, target)
        return fingerprint

    def _extract(self) -> dict[str, Any]:
        names = list(self.dataset)
        with captured_output(logger):
            reader_class = determine_reader_writer_from_dataset_json(
                self.dataset_json, self.dataset[names[0]]["images"][0], verbose=False
            )

        def analyze(name: str) -> _CaseFingerprint:
            return _analyze_case(reader_class(), self.dataset[name])

        with ThreadPoolExecutor(self.num_processes) as pool:
            cases = list(track(pool.map(analyze, names), "Fingerprinting", len(names)))
        channels = range(len(self.dataset_json["channel_names"]))
        return {
            "spacings": [list(case.spacing) for case in cases],
            "shapes_after_crop": [list(case.shape) for case in cases],
            "foreground_intensity_properties_per_channel": {
                str(channel): intensity_statistics([case.distributions[channel] for case in cases])
                for channel in channels
            },
            "median_relative_size_after_cropping": float(
                np.median([case.relative_size for case in cases])
            ),
        }

    def _content_hash(self) -> str:
        """Hash names, sizes and times of all raw files, which is quick and notices any change."""
        files = [
            path for case in self.dataset.values() for path in (*case["images"], case["label"])
        ]
        facts = [(Path(path).name, *_size_and_time(Path(path))) for path in files]
        text = json.dumps([self.dataset_json["channel_names"], facts])
        return hashlib.sha256(text.encode()).hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(
            "a file of the data set is missing", where=path, mend="convert the data set again"
        ) from error
    return status.st_size, status.st_mtime_ns


def _analyze_case(reader: Any, case: dict[str, Any]) -> _CaseFingerprint:
    try:
        image, properties = reader.read_images(case["images"])
        mask, _ = reader.read_seg(case["label"])
    except Exception as error:
        raise DataError(
            f"an image or its mask cannot be read: {error}",
            where=case["label"],
            mend="convert the data set again, or remove the case",
        ) from error
    if image.shape[1:] != mask.shape[1:]:
        raise DataError(
            f"image {image.shape[1:]} and mask {mask.shape[1:]} differ in size", where=case["label"]
        )
    whole = image[0].size
    image, mask, _ = crop_to_nonzero(image, mask)
    foreground = mask[0] > 0
    return _CaseFingerprint(
        shape=tuple(int(side) for side in image.shape[1:]),
        spacing=tuple(float(side) for side in properties["spacing"]),
        distributions=[distribution_of(channel[foreground]) for channel in image],
        relative_size=image[0].size / whole,
    )
