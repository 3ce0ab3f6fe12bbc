"""An ensemble of models that predict each image in turn, without writing probabilities."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnmedseg.errors import UserError
from nnmedseg.inference.ensembles.combining import Combination
from nnmedseg.inference.ensembles.mean import WeightedMean, Weighting
from nnmedseg.inference.folders.manifest import Manifest, Outcome
from nnmedseg.inference.folders.memory import check_input_memory, check_memory
from nnmedseg.inference.folders.overlapping import overlapped
from nnmedseg.inference.folders.predict import identity
from nnmedseg.inference.folders.run import FolderRun
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase, find_cases
from nnmedseg.inference.inputs.geometry import as_in_file
from nnmedseg.inference.inputs.prompts import open_prompts
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.predictor import MedSegPredictor


@dataclass(frozen=True)
class _Input:
    """A case as one of the models takes it."""

    loaded: LoadedCase
    data: torch.Tensor
    properties: dict[str, Any]


@dataclass(frozen=True)
class _Prepared:
    case: InputCase
    inputs: list[_Input]


def ensemble_models(
    members: Sequence[MedSegPredictor],
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    weights: Weighting,
    outputs: Outputs | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Predict each image with all models and write the masks that their mean gives.

    Each model reads and prepares the image as it was trained. Post-processing that was learnt for
    one of them is left out: it was not learnt on the mean.

    Args:
        members: The models, all in memory.
        images: See `find_cases`.
        output: Folder for masks and ``predictions.json``.
        weights: See `shares`.
        outputs: What is written beside the masks.
        overwrite: Predict completed cases again.

    Raises:
        UserError: The models do not go together, or there are no images.
    """
    outputs = outputs or Outputs()
    for member in members:
        open_prompts(member)  # an ensemble has no points to give
    combination = Combination(
        [str(member.model) for member in members],
        [LabelDefinition.of(member.dataset_json) for member in members],
        [identity(member) for member in members],
        weights=weights,
        target=Path(output),
        outputs=outputs,
    )
    cases = _cases_of_all(members, images)
    outputs.refuse_conflicts(cases, combination.target)
    ensemble = _ModelEnsemble(members, combination)
    run = FolderRun(combination.target, outputs.names, ensemble.run)
    return run.over(cases, combination.identity(), overwrite=overwrite)


def _cases_of_all(
    members: Sequence[MedSegPredictor], images: str | Path | Sequence[str | Path]
) -> list[InputCase]:
    """Return the cases, which all models must find to be the same."""
    first, *others = (
        find_cases(images, member.channels, pictures=member.takes_pictures) for member in members
    )
    if any(other != first for other in others):
        raise UserError(
            "the models do not take the same files as one case",
            where=", ".join(str(member.model) for member in members),
            mend="combine models that were trained on the same channels",
        )
    return first


class _ModelEnsemble:
    def __init__(self, members: Sequence[MedSegPredictor], combination: Combination):
        self._members = members
        self._combination = combination

    def run(self, cases: Sequence[InputCase]) -> Iterator[Outcome]:
        """Yield what becomes of each case."""
        return overlapped(cases, self._prepare, self._predict)

    def _prepare(self, case: InputCase) -> _Prepared:
        wanted = self._combination.outputs
        inputs: list[_Input] = []
        for member in self._members:
            check_input_memory(member, case)
            loaded = member.load(case)
            wanted.check(loaded)
            data, properties = member.preprocess(loaded)
            self._check_memory(member, data.shape[1:], properties)
            if not wanted.overlay or inputs:  # an overlay shows the first model's image
                loaded = loaded.without_pixels()
            inputs.append(_Input(loaded, data, properties))
        return _Prepared(case, inputs)

    def _check_memory(
        self, member: MedSegPredictor, shape: Sequence[int], properties: dict[str, Any]
    ) -> None:
        """Refuse an image for which there is not enough memory.

        It is needed for what the model makes of it, for the mean, and for what is being written of
        the image before.
        """
        wanted = self._combination.outputs
        heads = member.label_manager.num_segmentation_heads
        of_each = heads * np.float32().itemsize
        of_each += np.float16().itemsize * (
            heads * (wanted.probabilities is not None) + wanted.uncertainty
        )
        besides = of_each * math.prod(properties["shape_before_cropping"])
        outputs = replace(wanted, probabilities="float16", uncertainty=False)
        check_memory(member, shape, properties, outputs, besides=besides)

    def _predict(
        self, together: Sequence[_Prepared], writers: ThreadPoolExecutor
    ) -> list[Future[Outcome]]:
        return [self._predict_one(prepared, writers) for prepared in together]

    def _predict_one(self, prepared: _Prepared, writers: ThreadPoolExecutor) -> Future[Outcome]:
        start = time.monotonic()
        mean = WeightedMean()
        weights = self._combination.weights
        for member, one, weight in zip(self._members, prepared.inputs, weights, strict=True):
            prediction = member.predict(one.data, one.properties, probabilities=True)
            if prediction.probabilities is None:
                raise TypeError("probabilities were asked for")
            values, geometry = as_in_file(prediction.probabilities, one.loaded)
            mean.add(values, weight)
        image = np.empty((0, *values.shape[1:]), np.float32)
        if self._combination.outputs.overlay:
            shown = prepared.inputs[0].loaded
            image, _ = as_in_file(shown.image, shown)
        notes = dict.fromkeys(note for one in prepared.inputs for note in one.loaded.notes)
        grid = LoadedCase.on_grid(image, geometry, tuple(notes))
        # Not left to the writer: the means of two images would be in memory then.
        combined = self._combination.prediction(mean)
        return writers.submit(self._combination.write, combined, grid, prepared.case, start)
