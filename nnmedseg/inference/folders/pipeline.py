"""Predicting cases with one model while others are read and written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nnmedseg.files import hash_of_file
from nnmedseg.inference.folders.manifest import PREDICTED, Outcome, facts_of
from nnmedseg.inference.folders.memory import check_input_memory, check_memory
from nnmedseg.inference.folders.overlapping import overlapped
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.memory import estimate_memory
from nnmedseg.inference.inputs.prompts import PreparedCase, Prompts
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.postprocessing.rules import PostProcessing
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.to_labels.reduction import Reduction

SLABS_WAITING = 2
"""How many parts of an image may wait for being turned into labels, which bounds the memory."""

READERS_BESIDE_AN_ACCELERATOR = 3


@dataclass(frozen=True)
class _Prepared:
    """A case ready for the network."""

    case: InputCase
    loaded: LoadedCase
    data: torch.Tensor
    properties: dict[str, Any]


class Pipeline:
    """Predicts cases one after another while others are read and written.

    Args:
        predictor: The loaded model.
        target: Folder for what is written.
        outputs: What to write.
        prompts: Points for a network that takes some.
        postprocessing: What to do to the labels before they are written.
    """

    def __init__(
        self,
        predictor: MedSegPredictor,
        target: Path,
        outputs: Outputs,
        prompts: Prompts | None = None,
        postprocessing: PostProcessing | None = None,
    ):
        self._predictor = predictor
        self._definition = LabelDefinition.of(predictor.dataset_json)
        self._target = target
        self._outputs = outputs
        self._prompts = prompts
        self._postprocessing = postprocessing

    def run(self, cases: Sequence[InputCase]) -> Iterator[Outcome]:
        """Yield what becomes of each case.

        Raises:
            UserError: The disk is full.
        """
        return overlapped(
            cases,
            self._prepare,
            self._predict,
            most_together=self._most_together,
            size=self._size,
            readers=self._readers,
        )

    @property
    def _readers(self) -> int:
        """Threads that read: one where the network needs the cores, or for volumes the memory."""
        on_cpu = self._predictor.batches.device.type == "cpu"
        return 1 if on_cpu or not self._predictor.is_natural else READERS_BESIDE_AN_ACCELERATOR

    def _most_together(self, prepared: _Prepared) -> int:
        return self._predictor.most_together(prepared.data.shape[1:])

    def _size(self, case: InputCase) -> int:
        """Return what a photograph takes, by its header; volumes never go together."""
        return (estimate_memory(case, self._predictor) or 0) if self._predictor.is_natural else 0

    def _prepare(self, case: InputCase) -> _Prepared:
        check_input_memory(self._predictor, case)
        loaded = self._predictor.load(case)
        self._outputs.check(loaded)
        data, properties = self._predictor.preprocess(loaded)
        if self._prompts is not None:
            slices, height, width = data.shape[1:]
            prepared = PreparedCase(case, loaded, (slices, height, width), properties)
            data = torch.cat([data, self._prompts.maps(prepared)])
        check_memory(self._predictor, data.shape[1:], properties, self._outputs)
        if not self._outputs.overlay:
            loaded = loaded.without_pixels()
        return _Prepared(case, loaded, data, properties)

    def _predict(
        self, together: Sequence[_Prepared], writers: ThreadPoolExecutor
    ) -> list[Future[Outcome]]:
        start = time.monotonic()
        slabs, reductions = self._predictor.start(
            [(prepared.data, prepared.properties) for prepared in together],
            probabilities=self._outputs.probabilities is not None,
            uncertainty=self._outputs.uncertainty,
        )
        waiting: deque[Future[None]] = deque()
        for number, slab in slabs:
            add = reductions[number].add
            waiting.append(writers.submit(add, slab.logits, slab.probabilities))
            if len(waiting) > SLABS_WAITING * len(together):
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
        seconds = (time.monotonic() - start) / len(together)
        return [
            writers.submit(self._write, prepared.case, prepared.loaded, reduction, seconds)
            for prepared, reduction in zip(together, reductions, strict=True)
        ]

    def _write(
        self, case: InputCase, loaded: LoadedCase, reduction: Reduction, seconds: float
    ) -> Outcome:
        start = time.monotonic()
        prediction = reduction.finish()
        if self._postprocessing is not None:
            labels = self._postprocessing(prediction.labels, loaded.properties["spacing"])
            prediction = replace(prediction, labels=labels)
        self._outputs.write(prediction, loaded, case, self._target, self._definition)
        hashes = {name: hash_of_file(self._target / name) for name in self._outputs.names(case)}
        return Outcome(
            case.name,
            facts_of(case),
            PREDICTED,
            hashes,
            round(seconds + time.monotonic() - start, 2),
            warnings=list(loaded.notes),
        )
