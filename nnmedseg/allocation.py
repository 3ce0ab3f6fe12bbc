"""How the C library hands out memory for images."""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
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
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; Windows has no library called None
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP)
    mallopt(M_TRIM_THRESHOLD, KEPT)
