"""Memory of one image serves the next."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nnmedseg.allocation import reuse_freed_memory

resource = pytest.importorskip("resource")
SIDE, ARRAYS = 1600, 6  # more at once than glibc keeps by default


def page_faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        assert len([np.ones((SIDE, SIDE, 3), np.uint8) for _ in range(ARRAYS)]) == ARRAYS
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is not here")
def test_arrays_of_some_megabytes_get_no_fresh_pages_once_freed_memory_is_reused():
    reuse_freed_memory()
    page_faults()
    assert page_faults() < SIDE * SIDE * 3 // resource.getpagesize()  # of one array


MANY_ARRAYS = """
import resource
import numpy as np
from nnmedseg.allocation import keep_freed_memory
keep_freed_memory()
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(3 * 10**6, np.uint8) for _ in range(80)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is not here")
def test_many_arrays_get_no_fresh_pages_once_freed_memory_is_kept():
    done = subprocess.run(
        [sys.executable, "-c", MANY_ARRAYS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 3 * 10**6 // resource.getpagesize()  # of one array
