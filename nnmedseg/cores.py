"""How many cores there are to share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds that a Linux container may compute in a period, and the period."""


def cpu_count() -> int:
    """Return the number of cores that this process may use, by its affinity and its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _cores_of_the_container() or cores)


def thread_count() -> int:
    """Return how many threads a network computes in: ``OMP_NUM_THREADS``, or one for each core."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) > 0 else cpu_count()


def _cores_of_the_container() -> int | None:
    try:
        quota, period = QUOTA.read_text("ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or "max": one without a quota
        return None


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep linear algebra to one thread inside the block, where threads of ours share the cores.

    NumPy's own threads would wait for each other by spinning on the cores that the others need:
    two threads that convert images then get no more done than one.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - looks at all loaded libraries

    with threadpool_limits(limits=1, user_api="blas"):
        yield
