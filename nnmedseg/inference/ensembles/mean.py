"""The mean of several predictions of one image, and the labels that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.errors import DataError, UserError
from nnmedseg.files import hash_of_file
from nnmedseg.inference.folders.manifest import PREDICTED, Outcome, facts_of
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.geometry import Geometry, write_map
from nnmedseg.inference.outputs.chosen import MASK_ENDING, PNG_ENDING, Outputs
from nnmedseg.inference.outputs.masks import write_png_mask

EQUAL = "equal"
VALIDATION = "validation"

Weighting = str | Sequence[float]


@dataclass(frozen=True)
class LabelDefinition:
    """What the numbers of a model's masks mean.

    Attributes:
        labels: Value, or values of a region, by name; background among them.
        regions_class_order: Of regions the values that nnU-Net writes, in turn.
    """

    labels: dict[str, Any]
    regions_class_order: list[int] | None = None

    @classmethod
    def of(cls, dataset: dict[str, Any]) -> LabelDefinition:
        """Return that of a ``dataset.json``."""
        return cls(dataset["labels"], dataset.get("regions_class_order"))

    def manager(self) -> LabelManager:
        """Return what nnU-Net makes of it."""
        return LabelManager(self.labels, self.regions_class_order)

    def agrees_with(self, other: LabelDefinition) -> bool:
        """Tell whether probabilities of both mean the same, channel by channel."""
        same_order = list(self.labels) == list(other.labels) or not self.manager().has_regions
        return (
            self.labels == other.labels
            and self.regions_class_order == other.regions_class_order
            and same_order
        )


class WeightedMean:
    """Adds up the probabilities of an image.

    Attributes:
        values: ``(K, Z, H, W)``, float32: the mean, when all have been added.
    """

    values: npt.NDArray[np.float32]

    def __init__(self) -> None:
        self.values = np.zeros((0, 0, 0, 0), np.float32)

    def add(self, probabilities: npt.NDArray[np.floating], weight: float) -> None:
        """Add those of one prediction.

        Args:
            probabilities: ``(K, Z, H, W)``.
            weight: Its share; all shares sum up to 1.

        Raises:
            DataError: They are not of the same size as those before.
        """
        if not self.values.size:
            self.values = np.zeros(probabilities.shape, np.float32)
        if self.values.shape != probabilities.shape:
            raise DataError(
                f"the predictions differ in size: {self.values.shape} and {probabilities.shape} "
                "(classes, slices, rows, columns)",
                mend="predict the same image with models of the same labels",
            )
        for total, one in zip(self.values, probabilities, strict=True):
            total[...] += np.multiply(one, weight, dtype=np.float32)

    def labels(self, manager: LabelManager) -> npt.NDArray[np.unsignedinteger]:
        """Return the label map ``(Z, H, W)``, as nnU-Net makes it of probabilities."""
        dtype = np.uint8 if max(manager.foreground_labels) <= np.iinfo(np.uint8).max else np.uint16
        labels = np.empty(self.values.shape[1:], dtype)
        for number in range(len(labels)):  # slice by slice: the place of a maximum has 64 bits
            labels[number] = manager.convert_probabilities_to_segmentation(self.values[:, number])
        return labels


def write_labels(
    labels: npt.NDArray[np.unsignedinteger],
    geometry: Geometry,
    case: InputCase,
    target: Path,
    manager: LabelManager,
    *,
    png: bool,
) -> dict[str, str]:
    """Write the masks of a case.

    Args:
        labels: ``(Z, H, W)``.
        geometry: Their grid.
        case: The case.
        target: Folder for the files.
        manager: What the labels mean.
        png: Also write PNG.

    Returns:
        The SHA-256 of each file, by its name.

    Raises:
        DataError: It is a volume, and PNG is wanted.
    """
    outputs = Outputs(png=png)
    x, y, z = geometry.spacing
    grid = LoadedCase(labels[None], {"spacing": (z, y, x)}, geometry)
    outputs.check(grid)
    base = target / case.name
    write_map(labels, base.with_name(base.name + MASK_ENDING), grid)
    if png:
        write_png_mask(labels, base.with_name(base.name + PNG_ENDING), manager)
    return {name: hash_of_file(target / name) for name in outputs.names(case)}


def outcome_of(
    case: InputCase, outputs: dict[str, str], seconds: float, notes: Sequence[str] = ()
) -> Outcome:
    """Return the outcome of a case whose files are written."""
    return Outcome(
        case.name, facts_of(case), PREDICTED, outputs, round(seconds, 2), warnings=list(notes)
    )


def check_agreement(names: Sequence[str], definitions: Sequence[LabelDefinition]) -> None:
    """Refuse models of different labels.

    Args:
        names: Of the models or folders.
        definitions: Their labels.

    Raises:
        UserError: Two differ, in labels or in their order.
    """
    for name, other in zip(names[1:], definitions[1:], strict=True):
        if not definitions[0].agrees_with(other):
            raise UserError(
                f"the labels differ: {definitions[0].labels} and {other.labels}",
                where=f"{names[0]} and {name}",
                mend="combine models that were trained on the same labels",
            )


def shares(weighting: Weighting, dice: Sequence[float | None], names: Sequence[str]) -> list[float]:
    """Return the weight of each model; they sum up to 1.

    Weights by validation are proportional to each model's mean validation Dice. Two numbers that
    were measured anyway cannot be fitted to noise; weights that are fitted to the validation's
    probabilities can, and need those of all models on disk.

    Args:
        weighting: ``"validation"``, ``"equal"``, or a number for each model.
        dice: Mean validation Dice of each model, ``None`` where it is not known.
        names: Of the models, for messages.

    Raises:
        UserError: The weights do not suit the models.
    """
    if isinstance(weighting, str) and weighting not in (EQUAL, VALIDATION):
        raise _no_weights(f"{weighting!r} is no way to weight models", names)
    if weighting == VALIDATION:
        unknown = [name for name, value in zip(names, dice, strict=True) if value is None]
        if unknown:
            raise UserError(
                "there is no validation to weight by, on cases that the folds in use held out",
                where=", ".join(unknown),
                mend="give --weights equal, or a number for each model",
            )
        weighting = [value for value in dice if value is not None]
    given = [1.0] * len(names) if isinstance(weighting, str) else [float(w) for w in weighting]
    if len(given) != len(names):
        raise _no_weights(f"there are {len(given)} weights for {len(names)} models", names)
    if not all(0 <= weight < math.inf for weight in given) or sum(given) <= 0:
        raise _no_weights(f"weights are numbers of at least 0, some above, not {given}", names)
    return [weight / sum(given) for weight in given]


def _no_weights(what: str, names: Sequence[str]) -> UserError:
    return UserError(
        what,
        where="--weights",
        mend=f"give validation, equal, or {len(names)} numbers: one for each model",
    )
