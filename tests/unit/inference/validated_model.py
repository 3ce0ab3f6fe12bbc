"""Model folders without weights, whose folds have predictions that tests make up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from PIL import Image

from nnmedseg.files import write_json

Labels = npt.NDArray[np.uint8]
READERS = {".png": "NaturalImage2DIO", ".nii.gz": "SimpleITKIO"}


@dataclass(frozen=True)
class ValidatedModel:
    """A model folder and the masks that it was trained on."""

    folder: Path
    references: Path
    ending: str

    def add_fold(self, fold: int, pairs: Iterable[tuple[Labels, Labels]]) -> None:
        """Write predictions and references, ``(H, W)`` or ``(Z, H, W)``, of a fold."""
        validation = self.folder / f"fold_{fold}" / "validation"
        validation.mkdir(parents=True)
        for number, (prediction, reference) in enumerate(pairs):
            name = f"case_{fold}_{number:02d}{self.ending}"
            write_labels(prediction, validation / name)
            write_labels(reference, self.references / name)
        write_json({"foreground_mean": {"Dice": 0.8}}, validation / "summary.json")


def write_labels(labels: Labels, path: Path, spacing: tuple[float, ...] = (1, 1, 1)) -> None:
    """Write labels as PNG or NIfTI, by the ending."""
    if path.suffix == ".png":
        Image.fromarray(labels).save(path)
    else:
        image = SimpleITK.GetImageFromArray(labels)
        image.SetSpacing(spacing[::-1])
        SimpleITK.WriteImage(image, str(path))


def validated_model(
    folder: Path,
    *,
    ending: str = ".png",
    labels: dict[str, Any] | None = None,
    regions_class_order: list[int] | None = None,
) -> ValidatedModel:
    """Make a model folder without folds."""
    model = folder / "nnUNetTrainer__nnUNetPlans__2d"
    references = folder / "references"
    model.mkdir()
    references.mkdir()
    dataset = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, **(labels or {"lesion": 1})},
        "file_ending": ending,
        **({"regions_class_order": regions_class_order} if regions_class_order else {}),
    }
    plans = {
        "dataset_name": "Dataset001_Test",
        "image_reader_writer": READERS[ending],
        "original_median_spacing_after_transp": [999.0 if ending == ".png" else 1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1 if ending == ".png" else 16, 64, 64],
        "label_manager": "LabelManager",
        "configurations": {},
    }
    write_json(dataset, model / "dataset.json")
    write_json(plans, model / "plans.json")
    return ValidatedModel(model, references, ending)
