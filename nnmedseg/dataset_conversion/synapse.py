"""Synapse multi-organ CT: TransUNet's slices and volumes, or BTCV's own NIfTI files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from nnmedseg.data.synapse import ORGANS
from nnmedseg.dataset_conversion._label_names import (
    LabelNames,
    number_labels,
    parse_label_names,
    split_names,
)
from nnmedseg.dataset_conversion._organs import BTCV_ORGANS, ORDERS, doubts_about
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_folders,
    find_images,
    pair_by_name,
    require_folders,
)
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError, UserError, list_some

SLICES = {
    5: 117, 6: 131, 7: 163, 9: 149, 10: 148, 21: 143, 23: 96, 24: 124, 26: 131, 27: 88, 28: 89,
    30: 153, 31: 93, 33: 104, 34: 98, 37: 99, 39: 90, 40: 195,
}  # fmt: skip
"""Slices of each training case of TransUNet's release, 2211 in all."""

TEST_CASES = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
SLICE_NAME = re.compile(r"case(\d+)_slice(\d+)", re.IGNORECASE)
VOLUME_NAME = r"(?P<id>case\d+)(\.np[yz])?"
LARGEST_EXCESS = 0.01
"""How far scaled intensities may be outside 0..1."""


@register
class Synapse(DatasetConverter):
    """18 training and 12 test volumes with 8 (or, in BTCV's own files, 13) organs.

    TransUNet's training slices become volumes again. Its files do not say which label is which
    organ, nor the spacing, and two orders of the organs are in use. BTCV's labels are known.
    """

    name = "Synapse"
    number = 1
    title = "Synapse multi-organ segmentation (BTCV abdomen, CT)"
    page = "https://www.synapse.org/#!Synapse:syn3193805/wiki/217789"
    licence = "Account needed; TransUNet's preprocessed files must not be redistributed"
    citation = (
        "Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault (2015); "
        "Chen et al., TransUNet, arXiv:2102.04306"
    )
    content = "volume"
    channel_names: Mapping[str, str] = {"0": "CT"}
    understands: ClassVar[frozenset[str]] = frozenset({"labels", "spacing"})

    def find_cases(self, root: Path) -> list[Case]:
        """Find the files of either form.

        Raises:
            NotFoundError: There is neither.
            DataError: There are both.
            UserError: The labels or the spacing that were chosen do not suit the files.
        """
        found = find_folders(root, ["train_npz", "test_vol_h5", "RawData"])
        prepared = {name: path for name, path in found.items() if name != "RawData"}
        if prepared and "RawData" in found:
            raise DataError(
                f"TransUNet's files ({', '.join(prepared)}) and BTCV's own (RawData) are both here",
                where=root,
                mend="give the folder that holds one of them with -i",
            )
        if prepared:
            return self._find_prepared(prepared)
        raw = find_folders(root, ["Training"])
        require_folders(root, [] if raw else ["train_npz", "test_vol_h5 (or RawData/Training)"])
        return self._find_raw(raw["Training"])

    def review(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Warn when volumes contradict the organs' names, or intensities their preparation."""
        if not self.slices_are_files:
            return []
        voxels: dict[int, int] = {}
        for record in records:
            for label, count in record.get("label_pixels", {}).items():
                voxels[int(label)] = voxels.get(int(label), 0) + count
        outside = [
            record["id"]
            for record in records
            if min(record["value_range"]) < -LARGEST_EXCESS
            or max(record["value_range"]) > 1 + LARGEST_EXCESS
        ]
        warnings = doubts_about(self.labels, voxels)
        if outside:
            warnings.append(
                "Intensities should be scaled to 0..1 and will not be normalised, but they are not "
                f"in {list_some(outside)}."
            )
        return warnings

    def _find_prepared(self, folders: Mapping[str, Path]) -> list[Case]:
        self.slices_are_files = True
        # nnU-Net's name for "leave the values alone": they were clipped and scaled to 0..1.
        self.channel_names = {"0": "noNorm"}
        names = self._names_in_prepared_files()
        self.labels, self.label_values = names.labels, names.values
        if self.options.spacing is None:
            self.notes.append(
                "TransUNet's files do not tell the spacing: 1 mm along all axes was written. "
                "--spacing Z Y X gives it."
            )
        cases = []
        if "train_npz" in folders:
            slices = find_images(folders["train_npz"], [".npz"])
            cases += [
                Case(f"case{number:04d}", files, files)
                for number, files in self._volumes_of(slices).items()
            ]
        if "test_vol_h5" in folders:
            volumes = find_images(folders["test_vol_h5"], [".h5"])
            cases += pair_by_name(
                volumes, volumes, part="test", image_name=VOLUME_NAME, mask_name=VOLUME_NAME
            )
        self._note_missing_cases(cases)
        return cases

    def _names_in_prepared_files(self) -> LabelNames:
        text = self.options.labels
        if text is None:
            self.notes.append(
                "TransUNet's files do not name their labels: the order of --labels transunet was "
                f"assumed ({', '.join(ORGANS)})."
            )
        order = ORDERS.get(text or "transunet")
        if order is not None:
            return number_labels(order, range(1, len(order) + 1))
        if "," not in str(text):
            raise UserError(
                f"{text!r} is not an order of the organs in TransUNet's files",
                where="--labels",
                mend=f"choose from {', '.join(ORDERS)}, or name all labels in their order, with "
                "commas",
            )
        return parse_label_names(str(text))

    def _volumes_of(self, slices: Iterable[Path]) -> dict[int, tuple[Path, ...]]:
        """Return the slices of each case in the order of their numbers; note what is missing."""
        cases: dict[int, dict[int, Path]] = {}
        double: list[Path] = []
        for path in slices:
            match = SLICE_NAME.fullmatch(path.stem)
            if match:
                case, number = int(match[1]), int(match[2])
                if number in cases.setdefault(case, {}):
                    double.append(path)
                cases[case].setdefault(number, path)
        if double:
            self.left_out |= dict.fromkeys(double, "a slice that is there twice")
            names = [path.name for path in double]
            self.notes.append(f"Slices that are there twice were left out: {list_some(names)}.")
        for case, files in sorted(cases.items()):
            count = max(SLICES.get(case, 0), max(files) + 1)
            missing = [number for number in range(count) if number not in files]
            if missing:
                self.notes.append(f"case{case:04d}: of {count} slices, {_ranges(missing)} missing.")
        return {
            case: tuple(files[number] for number in sorted(files)) for case, files in cases.items()
        }

    def _note_missing_cases(self, cases: Sequence[Case]) -> None:
        present = {case.id.casefold() for case in cases}
        for part, numbers in (("training", tuple(SLICES)), ("test", TEST_CASES)):
            names = [f"case{number:04d}" for number in numbers]
            missing = [name for name in names if name not in present]
            if missing:
                self.notes.append(
                    f"{len(missing)} of the {len(names)} {part} cases are missing: "
                    f"{list_some(missing, len(names))}."
                )

    def _find_raw(self, training: Path) -> list[Case]:
        if self.options.spacing is not None:
            raise UserError(
                "BTCV's files tell their spacing", where="--spacing", mend="leave it out"
            )
        self._name_raw_labels()
        folders = find_folders(training, ["img", "label"])
        require_folders(training, [name for name in ("img", "label") if name not in folders])
        found = pair_by_name(
            find_images(folders["img"], [".nii.gz", ".nii"]),
            find_images(folders["label"], [".nii.gz", ".nii"]),
            part="train",
            image_name=r"img(?P<id>\d+)(\.nii)?",
            mask_name=r"label(?P<id>\d+)(\.nii)?",
        )
        self._note_test_images(training.parent)
        cases = [
            replace(
                case, id=f"case{case.id}", part="test" if int(case.id) in TEST_CASES else "train"
            )
            for case in found
        ]
        self._note_missing_cases(cases)
        return cases

    def _name_raw_labels(self) -> None:
        """Map the 13 original labels to those that were chosen, in that order; others become 0."""
        text = self.options.labels or "transunet"
        chosen = list(BTCV_ORGANS if text == "all" else ORDERS.get(text) or split_names(text))
        unknown = [name for name in chosen if name not in BTCV_ORGANS]
        if unknown or len(set(chosen)) < len(chosen):
            raise UserError(
                f"BTCV has no organ {unknown[0]!r}" if unknown else f"{text!r} has a name twice",
                where="--labels",
                mend=f"choose {', '.join(ORDERS)}, all, or some of: {', '.join(BTCV_ORGANS)}",
            )
        self.labels = {"background": 0} | {name: n for n, name in enumerate(chosen, start=1)}
        self.label_values = {0: 0} | {
            value: self.labels.get(name, 0) for value, name in enumerate(BTCV_ORGANS, start=1)
        }

    def _note_test_images(self, release: Path) -> None:
        testing = find_folders(release, ["Testing"]).get("Testing")
        images = find_folders(testing, ["img"]).get("img") if testing else None
        if images:
            self.notes.append(
                f"{len(find_images(images, ['.nii.gz', '.nii']))} images of BTCV's own test part "
                "were left out: their labels are not public. The test part is TransUNet's 12 cases."
            )


def _ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers in rising order as text, for instance ``003, 010-014``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]:03d}-{run[-1]:03d}" if len(run) > 1 else f"{run[0]:03d}" for run in runs]
    return list_some(texts)
