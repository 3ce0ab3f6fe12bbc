"""The scripts in ``benchmarks`` run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKS = Path(__file__).parents[2] / "benchmarks" / "networks.py"


def run(*options):
    return subprocess.run(
        [sys.executable, NETWORKS, "--device", "cpu", "--networks", "asc", *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def cells(output, title):
    lines = [line.strip("| ").split(" | ") for line in output.splitlines()]
    (found,) = (line for line in lines if line[0] == title)
    return found


@pytest.mark.slow
def test_networks_prints_positive_figures_beside_the_peer(tmp_path):
    table = tmp_path / "table.md"
    output = run("--repeats", "1", "--threads", "1", "--size", "64", "--output", str(table))
    for title in ("PlainConvUNet", "asc"):
        *figures, operators = cells(output, title)[2:]
        if sys.platform == "win32":  # which does not tell the peak of a process
            figures = [x for x in figures if x != "-"]
        assert all(float(figure) > 0 for figure in figures)
        assert operators.count("%") == 3
    assert output in table.read_text()


@pytest.mark.slow
def test_networks_says_which_passes_took_too_long():
    assert cells(run("--budget", "0.1"), "asc")[2:6] == ["over 0.1 s", "-", "-", "over 0.1 s"]
