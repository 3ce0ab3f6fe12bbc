"""Kills while checkpoints are saved; the benchmark of this name takes a hundred and larger ones."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills_while_saving.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_no_run_and_no_saved_epoch_is_lost():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "10", "--megabytes", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs lost: 0" in done.stdout
    assert "epochs lost: 0" in done.stdout
