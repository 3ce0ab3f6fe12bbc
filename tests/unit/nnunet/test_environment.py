"""nnU-Net's environment variables."""

import os

import pytest

from nnmedseg.nnunet.environment import BRIDGE_FOLDER, prepare

VARIABLES = ("nnUNet_extTrainer", "nnUNet_def_n_proc", "nnUNet_n_proc_DA", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


def test_our_trainers_are_found_beside_the_users(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/mine")
    prepare()
    assert os.environ["nnUNet_extTrainer"].split(os.pathsep) == [str(BRIDGE_FOLDER), "/mine"]


def test_preparing_twice_changes_nothing():
    prepare()
    first = dict(os.environ)
    prepare()
    assert dict(os.environ) == first


def test_the_users_number_of_processes_is_kept(monkeypatch):
    monkeypatch.setenv("nnUNet_def_n_proc", "3")
    prepare()
    assert os.environ["nnUNet_def_n_proc"] == "3"


def test_the_bridge_folder_holds_one_module():
    assert [path.name for path in BRIDGE_FOLDER.glob("*.py")] == ["nnmedseg_trainer_bridge.py"]
