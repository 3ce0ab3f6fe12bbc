"""What ends one of several processes that train together ends all, and is said once."""

import os
import signal
import subprocess
import sys

import pytest

from .test_interruption import alive_in_group, wait_until_gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc"),
]

# The second process does what the test asks for; the first waits for it as in a training step.
SCRIPT = r"""
import os, signal, sys, time
import torch
from torch import distributed
from nnmedseg.errors import DataError
from nnmedseg.training.interruption import Interrupted, interruptible
from nnmedseg.training.launching import RankError, launch

def work(fault, place, device):
    distributed.barrier()
    print("joined", place.rank, flush=True)
    if place.rank == 1:
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "user error":
            raise DataError("the mask is empty", where="case_1", mend="draw one")
        if fault == "bug":
            raise ZeroDivisionError("of this test")
        if fault == "waiting":
            os.write(2, b"waiting\n")
            time.sleep(600)
    distributed.barrier()

if __name__ == "__main__":
    try:
        with interruptible():
            launch(work, sys.argv[1], torch.device("cpu"), 2)
    except DataError as error:
        sys.stderr.write(f"caught: {error}")
        sys.exit(2)
    except Interrupted as error:
        sys.exit(error.exit_code)
"""


@pytest.fixture
def start(tmp_path):
    """Starts two processes, of which the second has the fault."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []

    def run(fault):
        started.append(
            subprocess.Popen(
                [sys.executable, script, fault],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        for left in alive_in_group(process.pid):
            os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("killed", 137, "Process 2 of 2 was killed (SIGKILL)"),
        ("user error", 2, "caught: the mask is empty\n  where: case_1\n  to mend it: draw one"),
        ("bug", 1, "ZeroDivisionError: of this test"),
    ],
)
def test_one_process_ends_all(start, fault, code, said):
    process = start(fault)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert errors.count(said) == 1
    assert "Connection" not in errors
    assert output == "joined 0\n"
    assert not wait_until_gone(process.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_launcher_takes_all_with_it(start, number):
    process = start("waiting")
    assert process.stderr.readline() == "waiting\n"
    assert len(alive_in_group(process.pid)) >= 3
    process.send_signal(number)
    expected = -number if number == signal.SIGKILL else 128 + number
    assert process.wait(timeout=60) == expected
    assert not wait_until_gone(process.pid)
