"""How the C library hands out memory for images."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # from glibc's malloc.h
NEVER = -1
KEPT = 128 * 2**20
LARGEST_ON_HEAP = 32 * 2**20
"""The most that glibc takes for this threshold."""


@cache
def reuse_freed_memory() -> None:
    """Let glibc keep the memory of one image for the next, up to 128 MiB a thread.

    By default it returns every array of some megabytes to the system, which hands it out again page
    by page, each filled with zeros: a sixth of the time of decoding and encoding photographs. Other
    C libraries are left as they are.
    """
    mallopt = _mallopt()
    mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP)
    mallopt(M_TRIM_THRESHOLD, KEPT)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep all memory that is freed, for a process that takes the same again and again.

    A training step on a CPU takes and frees the same arrays each time, some of them hundreds of
    megabytes. Fetching them from the system took up to half of the time: RoSPER-Net had 238,000
    page faults a step at 512 x 688, and 8,700 so. The process holds up to 7 % more memory.
    """
    mallopt = _mallopt()
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, NEVER)


def _mallopt() -> Callable[[int, int], object]:
    """Return glibc's function, or one that does nothing where there is none."""
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; Windows has no library called None
        return lambda _name, _value: None
