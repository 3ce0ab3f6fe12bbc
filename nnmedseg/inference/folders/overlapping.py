"""Reading, predicting and writing cases at the same time, in threads."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from nnmedseg.errors import UserError
from nnmedseg.inference.folders.manifest import FAILED, Outcome, facts_of
from nnmedseg.inference.inputs.cases import InputCase

logger = logging.getLogger(__name__)

CASES_READ_AHEAD = 2
CASES_WRITTEN_BEHIND = 2
BYTES_READ_AHEAD = 2**30
"""What cases may take that are read ahead only to be predicted together."""

Prepared = TypeVar("Prepared")


def overlapped(
    cases: Sequence[InputCase],
    prepare: Callable[[InputCase], Prepared],
    predict: Callable[[Sequence[Prepared], ThreadPoolExecutor], Sequence[Future[Outcome]]],
    *,
    most_together: Callable[[Prepared], int] = lambda _: 1,
    size: Callable[[InputCase], int] = lambda _: 0,
    readers: int = 1,
) -> Iterator[Outcome]:
    """Yield what becomes of each case; one that fails never stops the rest.

    Args:
        cases: The cases.
        prepare: Reads a case, in threads of their own.
        predict: Predicts cases, in this thread, and leaves the writing to the pool of one thread.
        most_together: How many cases like this one are best predicted together. It never waits for
            so many: those that are read by then go together.
        size: About how many bytes it takes to prepare a case.
        readers: Threads that prepare cases; each holds one in memory.
    """
    written: deque[tuple[InputCase, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(readers) as reading, ThreadPoolExecutor(1) as writers:
        try:
            ahead = _ReadAhead(reading, prepare, size, CASES_READ_AHEAD + readers - 1)
            for group in _groups(cases, ahead, most_together):
                for case, future in _predicted(group, predict, writers):
                    written.append((case, future))
                    if len(written) >= CASES_WRITTEN_BEHIND:
                        yield _outcome(*written.popleft())
            while written:
                yield _outcome(*written.popleft())
        finally:
            for _, future in written:
                future.cancel()
            reading.shutdown(cancel_futures=True)


class _ReadAhead(Generic[Prepared]):
    """Cases that are prepared, or being so, before it is their turn.

    Attributes:
        waiting: The cases in their order, with what becomes of them.

    Args:
        pool: Threads that prepare.
        prepare: Prepares a case.
        size: See `overlapped`.
        least: How many cases are read ahead whatever they take.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        prepare: Callable[[InputCase], Prepared],
        size: Callable[[InputCase], int],
        least: int,
    ):
        self.waiting: deque[tuple[InputCase, Future[Prepared]]] = deque()
        self._pool, self._prepare, self._size, self._least = pool, prepare, size, least
        self._sizes: deque[int] = deque()

    def fill(self, left: deque[InputCase], most: int) -> None:
        """Take cases from the front until so many wait, or those beyond the least get too large."""
        while left and len(self.waiting) < max(self._least, most):
            taken = [*self._sizes, self._size_of(left[0])]
            if len(self.waiting) >= self._least and sum(taken) > BYTES_READ_AHEAD:
                return
            case = left.popleft()
            self._sizes.append(taken[-1])
            self.waiting.append((case, self._pool.submit(self._prepare, case)))

    def _size_of(self, case: InputCase) -> int:
        try:
            return self._size(case)
        except Exception:  # preparing it says what is wrong, and the rest goes on
            return 0

    def next(self) -> tuple[InputCase, Future[Prepared]]:
        """Return the first that waits."""
        self._sizes.popleft()
        return self.waiting.popleft()


def _groups(
    cases: Sequence[InputCase],
    ahead: _ReadAhead[Prepared],
    most_together: Callable[[Prepared], int],
) -> Iterator[list[tuple[InputCase, Future[Prepared]]]]:
    """Yield cases to predict together, the first of which has been read."""
    left = deque(cases)
    most = 1
    while True:
        ahead.fill(left, 1 + most)
        if not ahead.waiting:
            return
        group = [ahead.next()]
        if group[0][1].exception() is None:
            most = most_together(group[0][1].result())
            while len(group) < most and ahead.waiting and _is_read(ahead.waiting[0][1]):
                group.append(ahead.next())
        yield group


def _is_read(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None


def _predicted(
    group: Sequence[tuple[InputCase, Future[Prepared]]],
    predict: Callable[[Sequence[Prepared], ThreadPoolExecutor], Sequence[Future[Outcome]]],
    writers: ThreadPoolExecutor,
) -> list[tuple[InputCase, Future[Outcome]]]:
    """Predict cases together, or each alone where that fails, so that the others are not lost."""
    cases = [case for case, _ in group]
    try:
        futures = predict([prepared.result() for _, prepared in group], writers)
    except Exception as error:  # one case never stops the rest
        if len(group) == 1:
            failed: Future[Outcome] = Future()
            failed.set_exception(error)
            return [(cases[0], failed)]
        return [one for each in group for one in _predicted([each], predict, writers)]
    return list(zip(cases, futures, strict=True))


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
