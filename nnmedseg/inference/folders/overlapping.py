"""Reading, predicting and writing cases at the same time, in threads."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from nnmedseg.errors import UserError
from nnmedseg.inference.folders.manifest import FAILED, Outcome, facts_of
from nnmedseg.inference.inputs.cases import InputCase

logger = logging.getLogger(__name__)

CASES_READ_AHEAD = 2
CASES_WRITTEN_BEHIND = 2

Prepared = TypeVar("Prepared")


def overlapped(
    cases: Sequence[InputCase],
    prepare: Callable[[InputCase], Prepared],
    predict: Callable[[Prepared, ThreadPoolExecutor], Future[Outcome]],
) -> Iterator[Outcome]:
    """Yield what becomes of each case; one that fails never stops the rest.

    Args:
        cases: The cases.
        prepare: Reads a case, in a thread of its own.
        predict: Predicts it, in this thread, and leaves the writing to the pool of one thread.
    """
    written: deque[tuple[InputCase, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
        try:
            for case, prepared in _read_ahead(readers, cases, prepare):
                try:
                    future = predict(prepared.result(), writers)
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
    pool: ThreadPoolExecutor,
    cases: Sequence[InputCase],
    prepare: Callable[[InputCase], Prepared],
) -> Iterator[tuple[InputCase, Future[Prepared]]]:
    waiting: deque[tuple[InputCase, Future[Prepared]]] = deque()
    for case in cases:
        waiting.append((case, pool.submit(prepare, case)))
        if len(waiting) >= CASES_READ_AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _outcome(case: InputCase, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except Exception as error:  # one case never stops the rest
        return _failure(case, error)


def _failure(case: InputCase, error: Exception) -> Outcome:
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
