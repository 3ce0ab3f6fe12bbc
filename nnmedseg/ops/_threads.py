"""Threads for compiled kernels that do not hold Python's lock.

Numba's own threads take much longer to compile and hang in processes forked from one that used
them, as data loaders are. These are Python's, and a forked process starts new ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")


class _Threads:
    """The process's threads, started when they are first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="nnmedseg")
            return self._pool


_threads = _Threads()


def _forget() -> None:
    global _threads  # noqa: PLW0603 - the threads, and who held the lock, stayed in the parent
    _threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_in_threads(function: Callable[[Task], object], tasks: Sequence[Task]) -> None:
    """Call ``function`` with every task, the first in this thread and the others beside it.

    Returns when all are done; raises the first task's error, in their order.
    """
    if len(tasks) == 1:
        function(tasks[0])
        return
    pool = _threads.pool()
    others = [pool.submit(function, task) for task in tasks[1:]]
    try:
        function(tasks[0])
    finally:
        for other in others:
            other.exception()  # wait: the tasks' arrays must not be freed before
    for other in others:
        other.result()
