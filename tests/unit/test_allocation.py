"""Memory of one image serves the next: counted in fresh processes, whose heap is nobody else's."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is not here")
BYTES = 8 * 10**6  # of an array; glibc returns one of this size when it is freed
COUNT_FAULTS = """
import resource
import sys
import numpy as np
from nnmedseg import allocation
function, length, arrays, rounds = sys.argv[1], *map(int, sys.argv[2:])
if function:
    getattr(allocation, function)()
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [np.ones(length, np.uint8) for _ in range(arrays)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
page_faults()
print(page_faults())
"""


def page_faults(function: str, *, arrays: int) -> int:
    """Return how many pages ten times so many arrays get once the memory is warm."""
    arguments = [function, str(BYTES), str(arrays), "10"]
    command = [sys.executable, "-c", COUNT_FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def pages_of_one_array() -> int:
    return BYTES // resource.getpagesize()


@pytest.mark.parametrize(
    ("function", "arrays"),
    [("reuse_freed_memory", 6), ("keep_freed_memory", 80)],
    ids=["images", "a training step's arrays"],
)
def test_arrays_get_no_fresh_pages_where_freed_memory_is_reused(function: str, arrays: int):
    assert page_faults(function, arrays=arrays) < pages_of_one_array()


def test_arrays_get_fresh_pages_where_it_is_not():
    assert page_faults("", arrays=6) > pages_of_one_array()
