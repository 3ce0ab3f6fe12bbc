"""Signals that end a run, and the processes that it leaves behind: none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnmedseg.training.interruption import Interrupted, interruptible

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")

# As nnU-Net's loaders, the children wait for ever for somebody to take what they have made.
PARENT = r"""
import multiprocessing, os, time
from nnmedseg.training.interruption import interruptible

def wait():
    os.write(1, b"child\n")
    time.sleep(600)

if __name__ == "__main__":
    with interruptible():
        children = [multiprocessing.get_context("fork").Process(target=wait) for _ in range(2)]
        for child in children:
            child.start()
        time.sleep(600)
"""


def alive_in_group(group: int) -> list[int]:
    """Ids of the processes of a group that run (and are not just waiting to be collected)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(status.parent.name))
    return found


def wait_until_gone(group: int, seconds: float = 10) -> list[int]:
    deadline = time.monotonic() + seconds
    while alive_in_group(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive_in_group(group)


def test_children_die_with_a_killed_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(2):
        assert parent.stdout.readline() == "child\n"
    assert len(alive_in_group(parent.pid)) == 3
    parent.kill()
    parent.wait()
    left = wait_until_gone(parent.pid)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def send_to_myself(number):
    os.kill(os.getpid(), number)
    time.sleep(5)  # a signal may arrive a little later


@pytest.fixture
def as_in_a_terminal():
    """Signals at their defaults; whoever runs the tests in the background ignores some."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.usefixtures("as_in_a_terminal")
def test_signals_are_raised_as_interruptions(number):
    with pytest.raises(Interrupted) as caught, interruptible():
        send_to_myself(number)
    assert (caught.value.name, caught.value.exit_code) == (number.name, 128 + number)


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_the_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
