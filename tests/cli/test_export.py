"""``nnmedseg_export`` and ``nnmedseg_install`` as users call them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nnmedseg.cli import export, install, predict

from ..unit.inference.plain_model import plain_model

MODEL = "nnUNetTrainer__nnUNetPlans__2d"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return plain_model(tmp_path_factory.mktemp("trained"), folds=(0, 1))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, "")
    monkeypatch.chdir(tmp_path)


def test_what_is_exported_is_installed_and_predicts(model, tmp_path, capsys):
    assert export.main(["-m", str(model), "--format", "zip", "-f", "1", "-o", "out"]) == 0
    assert f"nnmedseg_install out/{MODEL}.zip" in capsys.readouterr().out
    assert install.main([f"out/{MODEL}.zip", "--workspace", "ours"]) == 0
    installed = tmp_path / "ours" / "results" / "Dataset001_Plain" / MODEL
    assert f"nnmedseg_predict -i IMAGES -o MASKS -m {installed}" in capsys.readouterr().out
    assert [path.name for path in installed.glob("fold_*")] == ["fold_1"]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save("image.png")
    arguments = ["-i", "image.png", "-m", str(installed), "-o", "masks", "--device", "cpu"]
    assert predict.main(arguments) == 0


def test_an_onnx_file_comes_with_its_runner(model, tmp_path, capsys):
    assert export.main(["-m", str(model), "--format", "onnx", "-f", "0", "-o", "out/a.onnx"]) == 0
    assert "python out/onnx_runner.py out/a.onnx IMAGE.npy MASK.npy" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.onnx", "onnx_runner.py"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "nowhere", "--format", "zip", "-o", "a.zip"], "no trained model"),
        (["--format", "onnx", "-o", "a.onnx"], "no model was named"),
    ],
)
def test_a_missing_model_is_a_users_mistake(arguments, message, tmp_path, capsys):
    assert export.main([*arguments, "--workspace", "ours"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))


def test_an_archive_that_is_refused_leaves_nothing(tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    assert install.main(["a.zip", "-o", "model"]) == 2
    assert "no ZIP archive" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("command", ["export", "install"])
def test_nothing_heavy_is_imported_to_show_the_help(command):
    code = (
        f"import sys; from nnmedseg.cli import {command}\n"
        f"try: {command}.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
