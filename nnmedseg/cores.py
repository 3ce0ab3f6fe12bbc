"""How many cores there are to share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cpu_count() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep linear algebra to one thread inside the block, where threads of ours share the cores.

    NumPy's own threads would wait for each other by spinning on the cores that the others need:
    two threads that convert images then get no more done than one.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - looks at all loaded libraries

    with threadpool_limits(limits=1, user_api="blas"):
        yield
