"""The mean of several predictions of one image, and the labels that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.errors import DataError, UserError
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.to_labels.reduction import entropy

EQUAL = "equal"
VALIDATION = "validation"

Weighting = str | Sequence[float]


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

    def prediction(self, manager: LabelManager, outputs: Outputs) -> Prediction:
        """Return labels, as nnU-Net makes them of probabilities, and what else is written.

        The uncertainty is the entropy of the mean.

        Args:
            manager: What the labels mean.
            outputs: What is written.
        """
        dtype = np.uint8 if max(manager.foreground_labels) <= np.iinfo(np.uint8).max else np.uint16
        labels = np.empty(self.values.shape[1:], dtype)
        uncertainty = np.empty(labels.shape, np.float16) if outputs.uncertainty else None
        for number in range(len(labels)):  # slice by slice: the place of a maximum has 64 bits
            means = self.values[:, number]
            labels[number] = manager.convert_probabilities_to_segmentation(means)
            if uncertainty is not None:
                uncertainty[number] = entropy(torch.from_numpy(means), manager.has_regions).numpy()
        probabilities = self.values.astype(np.float16) if outputs.probabilities else None
        return Prediction(labels, probabilities, uncertainty)


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
