"""What nnU-Net's own verification refuses is an error of ours."""

from __future__ import annotations

import multiprocessing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnmedseg.data.integrity import verify_dataset

from . import broken_files, broken_layouts
from .raw_data_sets import natural_images, volumes

BROKEN = [*broken_layouts.BROKEN, *broken_files.BROKEN]
IDS = [f"{broken.kind}-{number}" for number, broken in enumerate(BROKEN)]


@pytest.fixture
def refusal(monkeypatch):
    """nnU-Net's verification, in threads: each of its processes takes seconds to import PyTorch."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    monkeypatch.setattr(
        multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool)
    )

    def verify(folder: Path) -> str | None:
        try:
            verify_dataset_integrity(str(folder), 1)
        except Exception as error:  # of many kinds
            return f"{type(error).__name__}: {error}"
        return None

    return verify


@pytest.mark.parametrize("make", [natural_images, volumes])
def test_nnunet_accepts_what_we_accept(tmp_path, refusal, make):
    folder = make(tmp_path / "Dataset001_Test")
    assert verify_dataset(folder).errors == []
    assert refusal(folder) is None


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN, ids=IDS)
def test_what_nnunet_refuses_is_an_error(tmp_path, refusal, broken):
    folder = broken.make(tmp_path / "Dataset001_Test")
    broken.break_it(folder)
    errors = verify_dataset(folder).errors
    refused = refusal(folder)
    assert errors or refused is None, refused
