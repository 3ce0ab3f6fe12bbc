"""What every ensemble does: which models it is of, and what is written of their mean."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnmedseg.files import hash_of_file
from nnmedseg.inference.ensembles.mean import WeightedMean, Weighting, check_agreement, shares
from nnmedseg.inference.folders.manifest import PREDICTED, Outcome, facts_of
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.prediction import Prediction


class Combination:
    """Models that agree about their labels, the weight of each, and the files that are written.

    Attributes:
        definition: The labels.
        weights: Share of each model.
        target: Folder for the files.
        outputs: Which files.
    """

    def __init__(
        self,
        names: Sequence[str],
        definitions: Sequence[LabelDefinition],
        models: Sequence[dict[str, Any]],
        *,
        weights: Weighting,
        target: Path,
        outputs: Outputs,
    ):
        """Weight the models.

        Args:
            names: Of the models or folders, for messages.
            definitions: The labels of each.
            models: What is known of each.
            weights: See `shares`.
            target: Folder for the files.
            outputs: Which files.

        Raises:
            UserError: Their labels differ, or the weights do not suit them.
        """
        check_agreement(names, definitions)
        self.definition = definitions[0]
        self.weights = shares(weights, [model.get("validation_dice") for model in models], names)
        self.target = target
        self.outputs = outputs
        self._models = list(models)
        self._weighted_by = weights if isinstance(weights, str) else "numbers"

    def identity(self) -> dict[str, Any]:
        """Return what decides the masks, for the manifest."""
        return {
            "ensemble": self._models,
            "weights": self.weights,
            "weighted_by": self._weighted_by,
            "labels": self.definition.labels,
            "regions_class_order": self.definition.regions_class_order,
        }

    def prediction(self, mean: WeightedMean) -> Prediction:
        """Return what the mean of all models says of an image."""
        return mean.prediction(self.definition.manager, self.outputs)

    def write(
        self, prediction: Prediction, loaded: LoadedCase, case: InputCase, start: float
    ) -> Outcome:
        """Write the files of a case.

        Args:
            prediction: On the grid of ``loaded``.
            loaded: The image; its pixels are needed for an overlay only.
            case: The case.
            start: When work on it began, by `time.monotonic`.
        """
        self.outputs.write(prediction, loaded, case, self.target, self.definition)
        return Outcome(
            case.name,
            facts_of(case),
            PREDICTED,
            {name: hash_of_file(self.target / name) for name in self.outputs.names(case)},
            round(time.monotonic() - start, 2),
            warnings=list(loaded.notes),
        )
