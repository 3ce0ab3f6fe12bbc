"""An ensemble of models that predict each image in turn, without writing probabilities."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnmedseg.errors import UserError
from nnmedseg.inference.ensembles.mean import (
    LabelDefinition,
    WeightedMean,
    Weighting,
    check_agreement,
    outcome_of,
    shares,
    write_labels,
)
from nnmedseg.inference.folders.manifest import Manifest, Outcome
from nnmedseg.inference.folders.memory import check_input_memory, check_memory
from nnmedseg.inference.folders.overlapping import overlapped
from nnmedseg.inference.folders.predict import identity
from nnmedseg.inference.folders.run import FolderRun
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase, find_cases
from nnmedseg.inference.inputs.geometry import Geometry, as_in_file
from nnmedseg.inference.inputs.prompts import open_prompts
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
    png: bool = False,
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
        png: Also write PNG masks.
        overwrite: Predict completed cases again.

    Raises:
        UserError: The models do not go together, or there are no images.
    """
    names = [str(member.model) for member in members]
    check_agreement(names, [LabelDefinition.of(member.dataset_json) for member in members])
    for member in members:
        open_prompts(member)  # an ensemble has no points to give
    models = [identity(member) for member in members]
    given = shares(weights, [model["validation_dice"] for model in models], names)
    cases = _cases_of_all(members, images)
    target = Path(output)
    outputs = Outputs(png=png)
    outputs.refuse_conflicts(cases, target)
    model = {
        "ensemble": models,
        "weights": given,
        "weighted_by": weights if isinstance(weights, str) else "numbers",
    }
    ensemble = _ModelEnsemble(members, given, target, png=png)
    run = FolderRun(target, outputs.names, ensemble.run)
    return run.over(cases, model, overwrite=overwrite)


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
    def __init__(
        self,
        members: Sequence[MedSegPredictor],
        weights: Sequence[float],
        target: Path,
        *,
        png: bool,
    ):
        self._members = members
        self._weights = weights
        self._target = target
        self._png = png

    def run(self, cases: Sequence[InputCase]) -> Iterator[Outcome]:
        """Yield what becomes of each case."""
        return overlapped(cases, self._prepare, self._predict)

    def _prepare(self, case: InputCase) -> _Prepared:
        outputs = Outputs(png=self._png, probabilities="float16")
        inputs = []
        for member in self._members:
            check_input_memory(member, case)
            loaded = member.load(case)
            outputs.check(loaded)
            data, properties = member.preprocess(loaded)
            heads = member.label_manager.num_segmentation_heads
            mean = heads * math.prod(loaded.image.shape[1:]) * np.float32().itemsize
            check_memory(member, data.shape[1:], properties, outputs, besides=mean)
            inputs.append(_Input(loaded.without_pixels(), data, properties))
        return _Prepared(case, inputs)

    def _predict(
        self, together: Sequence[_Prepared], writers: ThreadPoolExecutor
    ) -> list[Future[Outcome]]:
        return [self._predict_one(prepared, writers) for prepared in together]

    def _predict_one(self, prepared: _Prepared, writers: ThreadPoolExecutor) -> Future[Outcome]:
        start = time.monotonic()
        mean = WeightedMean()
        for member, one, weight in zip(self._members, prepared.inputs, self._weights, strict=True):
            prediction = member.predict(one.data, one.properties, probabilities=True)
            if prediction.probabilities is None:
                raise TypeError("probabilities were asked for")
            values, geometry = as_in_file(prediction.probabilities, one.loaded)
            mean.add(values, weight)
        # Not left to the writer: the probabilities of two images would be in memory then.
        labels = mean.labels(self._members[0].label_manager)
        return writers.submit(self._write, prepared, labels, geometry, start)

    def _write(
        self,
        prepared: _Prepared,
        labels: npt.NDArray[np.unsignedinteger],
        geometry: Geometry,
        start: float,
    ) -> Outcome:
        manager = self._members[0].label_manager
        case = prepared.case
        written = write_labels(labels, geometry, case, self._target, manager, png=self._png)
        notes = dict.fromkeys(note for one in prepared.inputs for note in one.loaded.notes)
        return outcome_of(case, written, time.monotonic() - start, list(notes))
