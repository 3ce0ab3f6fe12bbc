"""A download of ISIC 2018 to damage, and folders to convert it to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nnmedseg.paths import Folders

ISIC = Path(__file__).parents[2] / "data" / "ISIC2018"


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """A copy of the small part of ISIC 2018: 7 training, 2 validation and 2 test cases."""
    return Path(shutil.copytree(ISIC, tmp_path / "download" / "ISIC2018"))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Empty raw, preprocessed and results folders."""
    made = Folders(*(tmp_path / "workspace" / kind for kind in ("raw", "preprocessed", "results")))
    for folder in (made.raw, made.preprocessed, made.results):
        folder.mkdir(parents=True)
    return made
