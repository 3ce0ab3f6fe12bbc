"""One tiny workspace for the tests of training."""

from __future__ import annotations

import os

import pytest

from .tiny_workspace import write_workspace

VARIABLES = (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
    "nnUNet_extTrainer",
    "nnUNet_n_proc_DA",
    "nnUNet_def_n_proc",
    "NNMEDSEG_PLUGINS",
)


@pytest.fixture
def tiny(tmp_path):
    """Folders of a preprocessed data set; the environment is as before afterwards."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    yield write_workspace(tmp_path)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
