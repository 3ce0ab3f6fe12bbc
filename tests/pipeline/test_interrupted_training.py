"""A training that is stopped, damaged or started twice, by the command itself."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import nnmedseg
from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.paths import resolve
from nnmedseg.training.checkpoints import read_checkpoint

from ..faults.test_interruption import alive_in_group, wait_until_gone

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).parent / "nnmedseg_train"
LATEST, PREVIOUS, FINAL = (f"checkpoint_{name}.pth" for name in ("latest", "previous", "final"))
SETTINGS = {
    "trainer": "RoSPERTrainer",
    "recipe": {"epochs": 4, "iterations": 2},
    "device": "cpu",
    "seed": 1,
}


def heed_keyboard():
    """Undo what a shell does to commands in the background, in which these tests may run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(workspace, *options, epochs=4):
    """Start a training in a session of its own."""
    return start_command(
        "2", "2d", "0", "-tr", "RoSPERTrainer", "--epochs", str(epochs), "--iterations", "2",
        "--device", "cpu", "--workspace", str(workspace.root), *options,
    )  # fmt: skip


def start_command(*arguments):
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_keyboard,  # noqa: PLW1509 - no thread of ours holds a lock here
    )


def fold_of(workspace):
    model = "RoSPERTrainer__RoSPERPlans__2d"
    return workspace.folders.results / workspace.dataset.name / model / "fold_0"


def wait_for(process, file, seconds=180):
    deadline = time.monotonic() + seconds
    while not file.is_file():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def running(fresh):
    """A training that has saved its first epoch, and will go on for very long."""
    process = start(fresh, epochs=1000)
    try:
        wait_for(process, fold_of(fresh) / LATEST)
        yield process
    finally:
        for left in alive_in_group(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()


def test_a_killed_training_leaves_no_process(running):
    assert len(alive_in_group(running.pid)) > 1
    running.kill()
    running.wait()
    assert not wait_until_gone(running.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_cleanly(running, fresh, number):
    os.killpg(running.pid, number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert f"Stopped by {number.name}; the same command goes on after epoch" in output
    assert "Traceback" not in output
    assert not wait_until_gone(running.pid)
    assert not list(fold_of(fresh).glob(".writing*"))


def test_a_second_start_on_the_same_fold_is_refused(running, fresh):
    second = start(fresh, epochs=1000)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"fold_0 is being trained by process {running.pid} on " in output


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_checkpoint_that_cannot_be_written_ends_the_training_and_keeps_the_earlier_one(
    running, fresh
):
    latest = fold_of(fresh) / LATEST
    limit = latest.stat().st_size // 2  # as a full disk would, but for checkpoints only
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (limit, limit))
    output, _ = running.communicate(timeout=180)
    assert running.returncode == 2
    assert "the checkpoint cannot be written: File too large" in output
    assert "make room on the disk" in output
    assert read_checkpoint(latest)["current_epoch"] >= 1
    assert not wait_until_gone(running.pid)


def log_of(fold):
    log = torch.load(fold / FINAL, weights_only=True)["logging"]
    return {key: values for key, values in log.items() if "timestamps" not in key}


@pytest.fixture(scope="module")
def uninterrupted(planned, tmp_path_factory):
    """The log of four epochs in one go, without their times."""
    root = tmp_path_factory.mktemp("uninterrupted")
    for kind in ("raw", "preprocessed"):
        shutil.copytree(getattr(planned.folders, kind), root / kind)
    log = log_of(nnmedseg.train(2, "2d", 0, folders=resolve(root), **SETTINGS))
    resolve(planned.root)
    return log


def killed_after_two_epochs(fresh):
    process = start(fresh, "--seed", "1")
    wait_for(process, fold_of(fresh) / PREVIOUS)
    wait_for(process, fold_of(fresh) / LATEST)  # for a moment there is a previous one only
    process.kill()
    process.wait()


def test_a_resumed_training_gives_the_losses_of_an_uninterrupted_one(fresh, uninterrupted, caplog):
    killed_after_two_epochs(fresh)
    with caplog.at_level("INFO"):
        fold = nnmedseg.train(2, "2d", 0, folders=fresh.folders, must_continue=True, **SETTINGS)
    assert f"Resuming after epoch 2 from {fold / LATEST}" in caplog.text
    assert log_of(fold) == uninterrupted
    assert not list(fold.glob("checkpoint_[lp]*"))


def test_the_previous_checkpoint_stands_in_for_a_damaged_latest_one(fresh, uninterrupted, caplog):
    killed_after_two_epochs(fresh)
    latest = fold_of(fresh) / LATEST
    os.truncate(latest, latest.stat().st_size // 2)
    with caplog.at_level("INFO"):
        fold = nnmedseg.train(2, "2d", 0, folders=fresh.folders, **SETTINGS)
    assert "Passing over checkpoint_latest.pth" in caplog.text
    assert "Resuming after epoch 1 from" in caplog.text
    assert log_of(fold) == uninterrupted


def test_there_must_be_something_to_continue(fresh):
    with pytest.raises(NotFoundError, match="no checkpoint to continue from"):
        nnmedseg.train(2, "2d", 0, folders=fresh.folders, must_continue=True, **SETTINGS)


class Hostile:
    """Its unpickling makes a file."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return (Path.touch, (self.made,))


def test_training_runs_no_code_from_a_checkpoint(fresh, tmp_path):
    fold = fold_of(fresh)
    fold.mkdir(parents=True)
    made = tmp_path / "made"
    torch.save({"network_weights": {}, "init_args": Hostile(made)}, fold / LATEST)
    with pytest.raises(WeightsError, match="may be code"):
        nnmedseg.train(2, "2d", 0, folders=fresh.folders, **SETTINGS)
    assert not made.exists()
