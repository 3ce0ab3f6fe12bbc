"""run.json: what a fold's folder says of the run that made it."""

import shutil
import socket
import subprocess

import numpy as np
import pytest
import torch

from nnmedseg.data.intensities import Affine
from nnmedseg.data.store import write_case
from nnmedseg.files import read_json
from nnmedseg.training.interruption import Interrupted
from nnmedseg.training.run_record import (
    RunRecord,
    circumstances,
    data_identity,
    differences,
    git_state,
    status_recorded,
)

CPU = torch.device("cpu")


def store(folder, value=0):
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        write_case(
            folder / f"{name}.uint8",
            np.full((3, 8, 8), value if name == "b" else 7, np.uint8),
            np.zeros((8, 8), np.int16),
            normalisation=Affine(np.ones(3, np.float32), np.zeros(3, np.float32)),
            properties={},
            locations={},
        )
    return folder


def test_wall_time_and_starts_add_up_over_resumed_runs(tmp_path):
    first = RunRecord(tmp_path)
    first.begin({"seed": 1}, resumed=False)
    first.update(epochs_done=2)
    started = first.read()["started"]
    first._write({**first.read(), "wall_seconds": 1000.0})
    second = RunRecord(tmp_path)
    second.begin({"seed": 1}, resumed=True)
    second.update(epochs_done=3)
    record = read_json(tmp_path / "run.json")
    assert record["wall_seconds"] >= 1000
    assert (record["started"], len(record["resumed"])) == (started, 1)
    assert record["epochs_done"] == 3


def test_a_run_that_begins_anew_forgets_the_earlier_one(tmp_path):
    RunRecord(tmp_path).begin({"epochs_done": 5}, resumed=False)
    again = RunRecord(tmp_path)
    again.begin({"seed": 1}, resumed=False)
    assert "epochs_done" not in again.read()


def test_what_others_write_into_it_stays(tmp_path):
    record = RunRecord(tmp_path)
    record.begin({}, resumed=False)
    RunRecord(tmp_path).update(events=["a batch was skipped"])
    record.update(epochs_done=1)
    assert record.read()["events"] == ["a batch was skipped"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (Interrupted(15), "interrupted: SIGTERM"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError("no such layer\nmore"), "failed: no such layer"),
        (MemoryError(), "failed: MemoryError"),
    ],
)
def test_how_a_run_has_ended_is_written(tmp_path, error, status):
    record = RunRecord(tmp_path)
    record.begin({}, resumed=False)
    assert record.read()["status"] == "running"
    try:
        with status_recorded(record, CPU):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error  # noqa: PT017
    assert record.read()["status"] == status


def test_the_same_images_have_the_same_hash_wherever_they_lie(tmp_path):
    here, there = store(tmp_path / "here"), store(tmp_path / "there")
    assert data_identity(here) == data_identity(there)
    assert data_identity(here)["cases"] == 2


def test_one_other_grey_level_gives_another_hash(tmp_path):
    here, there = store(tmp_path / "here"), store(tmp_path / "there", value=1)
    assert data_identity(here)["sha256"] != data_identity(there)["sha256"]


def test_arrays_without_checksums_are_told_apart_by_their_sizes(tmp_path):
    for name, size in (("here", 10), ("there", 11)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.b2nd").write_bytes(bytes(size))
        (tmp_path / name / "a.pkl").write_bytes(b"")
    here, there = (data_identity(tmp_path / name) for name in ("here", "there"))
    assert here["sha256"] != there["sha256"]
    assert (here["cases"], here["of"]) == (1, "names and sizes of the stored arrays")


@pytest.mark.skipif(shutil.which("git") is None, reason="git")
def test_a_changed_checkout_is_dirty(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    assert git_state(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    clean = git_state(tmp_path)
    (tmp_path / "file").write_text("2")
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    assert git_state(tmp_path) == {**clean, "dirty": True}


def test_versions_are_recorded_and_the_machine_is_not(tmp_path):
    facts = circumstances(CPU, store(tmp_path / "data"))
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"python", "numpy", "nnmedseg", "nnunetv2", "timm"} <= facts["versions"].keys()
    assert socket.gethostname() not in str({k: v for k, v in facts.items() if k != "command_line"})


def test_only_the_settings_that_differ_are_named():
    earlier = {"seed": 1, "recipe": {"epochs": 3, "loss": "nnunet"}, "status": "finished"}
    now = {"seed": 1, "recipe": {"epochs": 4, "loss": "nnunet", "new": 0}, "also_new": 1}
    assert list(differences(earlier, now)) == [("recipe.epochs", 3, 4)]
