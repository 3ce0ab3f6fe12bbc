"""The line for nnU-Net's own commands."""

import subprocess

import pytest

from nnmedseg.cli import env
from nnmedseg.nnunet.environment import BRIDGE_FOLDER


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch, tmp_path):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def line(capsys, *arguments: str) -> str:
    assert env.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return printed


def test_a_shell_takes_it_even_with_blanks_in_the_path(capsys, tmp_path):
    workspace = tmp_path / "with blanks"
    script = line(capsys, "--workspace", str(workspace)) + 'printf "%s" "$nnUNet_results"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == str(workspace / "results")


def test_it_names_the_bridge(capsys):
    assert str(BRIDGE_FOLDER) in line(capsys)


@pytest.mark.parametrize(
    ("shell", "beginning"),
    [("powershell", "$env:nnUNet"), ("cmd", 'set "nnUNet'), ("fish", "set -gx nnUNet")],
)
def test_other_shells_get_their_own_syntax(capsys, shell, beginning):
    assert line(capsys, "--shell", shell).startswith(beginning)
