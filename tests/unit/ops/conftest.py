"""Programs in processes of their own: an operator's form is chosen once in each."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

# PyTorch itself bears no other kind of error from importing Triton.
BROKEN = "raise ImportError('undefined symbol: _ZN3foo')\n"


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., tuple[str, list[str]]]:
    """Runs a program with environment variables; returns its output and the lines it logs.

    Importing the module ``broken`` fails there.
    """

    def run(program: str, *, broken: str | None = None, **variables: str) -> tuple[str, list[str]]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        if broken:
            (tmp_path / f"{broken}.py").write_text(BROKEN)
            environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout, done.stderr.splitlines()

    return run
