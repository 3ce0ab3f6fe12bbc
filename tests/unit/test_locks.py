"""The lock of a folder that one process may make at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from nnmedseg.errors import UserError
from nnmedseg.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from nnmedseg.locks import locked
with locked(Path(sys.argv[1]), "trained"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "fold_0")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_holds_the_folder(holder, tmp_path):
    with (
        pytest.raises(UserError, match=rf"is being trained by process {holder.pid} on .+ since 2"),
        locked(tmp_path / "fold_0", "trained"),
    ):
        pass


def test_another_folder_is_free(holder, tmp_path):
    with locked(tmp_path / "fold_1", "trained"):
        pass


def test_a_killed_process_leaves_the_folder_open(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "fold_0", "trained"):
        pass


def test_nothing_is_left_behind(tmp_path):
    with locked(tmp_path / "fold_0", "trained"):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_without_locks_in_the_file_system_the_work_goes_on(tmp_path, monkeypatch, caplog):
    def flock(descriptor, operation):
        # As NFS mounted without its lock service; no such file system can be had in a test.
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    done = False
    with locked(tmp_path / "fold_0", "trained"):
        done = True
    assert done
    assert "has no locks" in caplog.text
