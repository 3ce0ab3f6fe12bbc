"""Overlap of predicted and reference masks."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.images import IMAGE_ENDINGS, read_image
from nnmedseg.data.simple_itk import read_values
from nnmedseg.errors import DataError, NotFoundError, list_some
from nnmedseg.files import atomic_path

logger = logging.getLogger(__name__)

NIFTI_ENDINGS = (".nii.gz", ".nii")
METRICS_FILE = "metrics.csv"


@dataclass(frozen=True)
class Overlap:
    """Pixels of one label in two masks.

    Attributes:
        true_positive: In both.
        false_positive: In the prediction only.
        false_negative: In the reference only.
    """

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN when the label is in neither mask."""
        return _ratio(
            2 * self.true_positive,
            2 * self.true_positive + self.false_positive + self.false_negative,
        )

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); NaN when the label is in neither mask."""
        return _ratio(
            self.true_positive, self.true_positive + self.false_positive + self.false_negative
        )


def overlap(
    prediction: npt.NDArray[np.integer], reference: npt.NDArray[np.integer], label: int
) -> Overlap:
    """Count the pixels of a label in two label maps of the same shape."""
    predicted, true = prediction == label, reference == label
    both = int(np.count_nonzero(predicted & true))
    return Overlap(
        both,
        int(np.count_nonzero(predicted)) - both,
        int(np.count_nonzero(true)) - both,
    )


def evaluate_folder(
    predictions: str | Path, references: str | Path, output: str | Path | None = None
) -> dict[str, Any]:
    """Write one row of metrics a case and label, and return the means over the cases.

    A label that is in neither mask of a case does not count for that case, as in nnU-Net.

    Args:
        predictions: Folder of predicted masks.
        references: Folder of reference masks with the same names (endings may differ).
        output: CSV file, or ``None`` for ``metrics.csv`` beside the predictions.

    Returns:
        ``{"cases": int, "labels": {label: {"dice": float, "iou": float}}}``.

    Raises:
        NotFoundError: A folder is missing or empty, or a prediction has no reference.
        DataError: Two masks differ in size.
    """
    pairs = _pair(Path(predictions), Path(references))
    rows: list[dict[str, Any]] = []
    for name, predicted_file, reference_file in pairs:
        predicted, reference = read_labels(predicted_file), read_labels(reference_file)
        if predicted.shape != reference.shape:
            raise DataError(
                f"prediction {predicted.shape} and reference {reference.shape} differ in size",
                where=f"{predicted_file} and {reference_file}",
            )
        present = (set(np.unique(predicted)) | set(np.unique(reference))) - {0}
        for label in sorted(present):
            counts = overlap(predicted, reference, label)
            rows.append({"case": name, "label": int(label), "dice": counts.dice, "iou": counts.iou})
    target = Path(output) if output is not None else Path(predictions) / METRICS_FILE
    _write_csv(rows, target)
    return {"cases": len(pairs), "labels": _means(rows)}


def read_labels(path: Path) -> npt.NDArray[np.integer]:
    """Read a label map ``(Z, H, W)``; a PNG mask of 0 and 255 gives 0 and 1.

    Raises:
        DataError: The file cannot be read.
    """
    if path.name.endswith(NIFTI_ENDINGS):
        try:
            labels = read_values(path)[0]
        except RuntimeError as error:
            raise DataError(f"the mask cannot be read: {error}", where=path) from error
    else:
        labels = read_image(path)
        labels = labels[..., 0] if labels.ndim == 3 else labels
        if set(np.unique(labels)) <= {0, 255}:
            labels = labels // 255
    labels = labels if labels.ndim == 3 else labels[None]
    return np.rint(labels).astype(np.int64)


def _pair(predictions: Path, references: Path) -> list[tuple[str, Path, Path]]:
    predicted, reference = _masks_in(predictions), _masks_in(references)
    missing = sorted(set(predicted) - set(reference))
    if missing:
        raise NotFoundError(
            f"{len(missing)} predictions have no reference mask: {list_some(missing)}",
            where=references,
            mend="give the folder whose masks have the same names",
        )
    return [(name, predicted[name], reference[name]) for name in sorted(predicted)]


def _masks_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise NotFoundError("there is no such folder", where=folder)
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name.endswith(NIFTI_ENDINGS):
            masks[path.name.partition(".nii")[0]] = path
        elif path.suffix.lower() in IMAGE_ENDINGS:
            masks.setdefault(path.stem, path)
    if not masks:
        raise NotFoundError("the folder holds no masks", where=folder)
    return masks


def _means(rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, float]]:
    labels = sorted({row["label"] for row in rows})
    return {
        label: {
            name: _mean(row[name] for row in rows if row["label"] == label)
            for name in ("dice", "iou")
        }
        for label in labels
    }


def _mean(values: Iterable[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _write_csv(rows: Sequence[dict[str, Any]], target: Path) -> None:
    with atomic_path(target) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "label", "dice", "iou"])
        writer.writeheader()
        writer.writerows(rows)
