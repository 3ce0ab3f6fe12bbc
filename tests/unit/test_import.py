"""Importing the package and asking for help costs nothing."""

import subprocess
import sys

import pytest

COMMANDS = (
    "convert",
    "plan_and_preprocess",
    "train",
    "predict",
    "evaluate",
    "demo",
    "env",
    "ensemble",
    "find_postprocessing",
)
HEAVY = ("torch", "nnunetv2", "numpy", "SimpleITK", "scipy")


def loaded_modules(code: str) -> set[str]:
    report = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_modules("import nnmedseg") & set(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command):
    code = (
        f"from nnmedseg.cli.{command} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0"
    )
    assert not loaded_modules(code) & set(HEAVY)
