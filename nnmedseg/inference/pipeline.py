"""Reading, predicting and writing cases at the same time, in threads."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nnmedseg.errors import UserError
from nnmedseg.files import hash_of_file
from nnmedseg.inference.cases import InputCase, LoadedCase
from nnmedseg.inference.manifest import FAILED, PREDICTED, Outcome, facts_of
from nnmedseg.inference.memory import check_memory
from nnmedseg.inference.outputs import Outputs
from nnmedseg.inference.postprocessing import PostProcessing
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.prompts import PreparedCase, Prompts
from nnmedseg.inference.reduction import Reduction

logger = logging.getLogger(__name__)

CASES_READ_AHEAD = 2
CASES_WRITTEN_BEHIND = 2
SLABS_WAITING = 2
"""How many parts of an image may wait for being turned into labels, which bounds the memory."""


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
        self._target = target
        self._outputs = outputs
        self._prompts = prompts
        self._postprocessing = postprocessing

    def run(self, cases: Sequence[InputCase]) -> Iterator[Outcome]:
        """Yield what becomes of each case.

        Raises:
            UserError: The disk is full.
        """
        written: deque[tuple[InputCase, Future[Outcome]]] = deque()
        with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
            try:
                for case, prepared in self._read_ahead(readers, cases):
                    try:
                        future = self._predict(prepared.result(), writers)
                    except Exception as error:  # one case never stops the rest
                        yield _failure(case, error)
                        continue
                    written.append((case, future))
                    if len(written) >= CASES_WRITTEN_BEHIND:
                        yield _outcome(*written.popleft())
                while written:
                    yield _outcome(*written.popleft())
            finally:
                for _, future in written:
                    future.cancel()
                readers.shutdown(cancel_futures=True)

    def _read_ahead(
        self, pool: ThreadPoolExecutor, cases: Sequence[InputCase]
    ) -> Iterator[tuple[InputCase, Future[_Prepared]]]:
        waiting: deque[tuple[InputCase, Future[_Prepared]]] = deque()
        for case in cases:
            waiting.append((case, pool.submit(self._prepare, case)))
            if len(waiting) >= CASES_READ_AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()

    def _prepare(self, case: InputCase) -> _Prepared:
        loaded = self._predictor.load(case)
        self._outputs.check(loaded)
        data, properties = self._predictor.preprocess(loaded)
        if self._prompts is not None:
            slices, height, width = data.shape[1:]
            prepared = PreparedCase(case, loaded, (slices, height, width), properties)
            data = torch.cat([data, self._prompts.maps(prepared)])
        check_memory(self._predictor, data.shape[1:], properties, self._outputs)
        return _Prepared(case, loaded, data, properties)

    def _predict(self, prepared: _Prepared, writers: ThreadPoolExecutor) -> Future[Outcome]:
        start = time.monotonic()
        slabs, reduction = self._predictor.start(
            prepared.data,
            prepared.properties,
            probabilities=self._outputs.probabilities is not None,
            uncertainty=self._outputs.uncertainty,
        )
        waiting: deque[Future[None]] = deque()
        for slab in slabs:
            waiting.append(writers.submit(reduction.add, slab.logits, slab.probabilities))
            if len(waiting) > SLABS_WAITING:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
        return writers.submit(self._write, prepared.case, prepared.loaded, reduction, start)

    def _write(
        self, case: InputCase, loaded: LoadedCase, reduction: Reduction, start: float
    ) -> Outcome:
        prediction = reduction.finish()
        if self._postprocessing is not None:
            labels = self._postprocessing(prediction.labels, loaded.properties["spacing"])
            prediction = replace(prediction, labels=labels)
        self._outputs.write(prediction, loaded, case, self._target, self._predictor)
        hashes = {name: hash_of_file(self._target / name) for name in self._outputs.names(case)}
        return Outcome(
            case.name,
            facts_of(case),
            PREDICTED,
            hashes,
            round(time.monotonic() - start, 2),
            warnings=list(loaded.notes),
        )


def _outcome(case: InputCase, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except Exception as error:  # one case never stops the rest
        return _failure(case, error)


def _failure(case: InputCase, error: Exception) -> Outcome:
    """Return the outcome of a case that failed.

    Raises:
        UserError: No case can be written any more.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise UserError(
            f"the masks cannot be written: {error.strerror}",
            where=error.filename,
            mend="make room and run the same command again: it goes on where it ended",
        ) from error
    message = str(error)
    if not isinstance(error, UserError):
        logger.debug("%s", case.name, exc_info=error)
        message = f"{type(error).__name__}: {error}"
    return Outcome(case.name, _facts_if_there(case), FAILED, message=message)


def _facts_if_there(case: InputCase) -> list[list[Any]]:
    try:
        return facts_of(case)
    except OSError:  # the file has gone since the run began
        return []
