"""Commands in processes of their own, as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nnmedseg

ROOT = str(Path(nnmedseg.__file__).parents[1])


def run_command(
    command: str, *arguments: str | Path, folder: Path, code: str | None = None
) -> subprocess.CompletedProcess:
    """Run ``nnmedseg_<command>``, or other code with its arguments, in a folder.

    nnU-Net's variables are not set, so that the workspace is in that folder.
    """
    environment = {name: value for name, value in os.environ.items() if name[:6] != "nnUNet"}
    start = f"import sys; from nnmedseg.cli.{command} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code or start, *map(str, arguments)],
        cwd=folder,
        env={**environment, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
