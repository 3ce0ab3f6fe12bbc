"""Threads that share the cores."""

from __future__ import annotations

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from nnmedseg import cores
from nnmedseg.cores import cpu_count, one_thread_each, thread_count


def blas_threads() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]


def test_linear_algebra_has_one_thread_inside_and_what_it_had_outside():
    before = blas_threads()
    with one_thread_each():
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before


@pytest.mark.parametrize(
    ("said", "expected"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("800000 100000", 8)],
)
def test_a_containers_quota_limits_the_cores(monkeypatch, tmp_path, said, expected):
    quota = tmp_path / "cpu.max"
    quota.write_text(said)
    monkeypatch.setattr(cores, "QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert cpu_count() == expected


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("4,2", 4), ("", None), ("0", None)])
def test_the_users_number_of_threads_counts(monkeypatch, said, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert thread_count() == (expected or cpu_count())
