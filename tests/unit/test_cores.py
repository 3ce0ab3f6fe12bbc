"""Threads that share the cores."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from nnmedseg.cores import one_thread_each


def blas_threads() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]


def test_linear_algebra_has_one_thread_inside_and_what_it_had_outside():
    before = blas_threads()
    with one_thread_each():
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
