"""The command ``nnmedseg_verify`` as a user runs it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.cli import verify

from .running import run_command

run = partial(run_command, "verify")
NAME = "Dataset007_Test"


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Two grey cases under the default workspace."""
    folder = tmp_path / "nnmedseg_workspace" / "raw" / NAME
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 32), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "imagesTr" / f"case_{number}_0000.png")
        Image.fromarray(image // 128).save(folder / "labelsTr" / f"case_{number}.png")
    description = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "bright": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def warn(dataset: Path) -> None:
    (dataset / "imagesTr" / "notes.txt").write_text("")


def damage(dataset: Path) -> None:
    image = dataset / "imagesTr" / "case_1_0000.png"
    image.write_bytes(image.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ([], [], 0),
        ([], ["--strict"], 0),
        ([warn], [], 0),
        ([warn], ["--strict"], 1),
        ([damage], [], 2),
        ([damage, warn], ["--strict"], 2),
    ],
)
def test_the_exit_code_says_how_bad_it_is(dataset, changes, options, code):
    for change in changes:
        change(dataset)
    assert verify.main(["-d", "7", *options]) == code


def test_every_problem_is_a_line_and_the_last_line_counts_them(dataset, capsys):
    damage(dataset)
    warn(dataset)
    verify.main(["-d", NAME])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("error: imagesTr/case_1_0000.png: ") for line in lines)
    assert any(line.startswith("warning: imagesTr/notes.txt: ") for line in lines)
    assert lines[-1] == f"{NAME}: 2 cases, 1 errors, 1 warnings"


def test_json_is_all_that_goes_to_the_standard_output(dataset, tmp_path):
    damage(dataset)
    done = run("-d", "7", "--json", "--num-processes", "2", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    report = json.loads(done.stdout)
    assert report["dataset"] == NAME
    assert [problem["file"] for problem in report["problems"]] == ["imagesTr/case_1_0000.png"]
    assert "Verifying" in done.stderr


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom nnmedseg.cli.verify import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'nnunetv2', 'numpy', 'nibabel', 'SimpleITK'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = run("--help", folder=tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert "--strict" in done.stdout


def test_verifying_imports_no_pytorch(dataset, tmp_path):
    code = (
        "import sys; from nnmedseg.cli.verify import main; main(); sys.exit('torch' in sys.modules)"
    )
    assert run("-d", "7", folder=tmp_path, code=code).returncode == 0


def test_a_data_set_that_is_not_there_is_one_message(capsys):
    assert verify.main(["-d", "9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no data set 9")
