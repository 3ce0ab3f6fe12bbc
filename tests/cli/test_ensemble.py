"""``nnmedseg_ensemble`` as users call it."""

import shutil

import numpy as np
import pytest
from PIL import Image

from nnmedseg.cli import ensemble, predict
from nnmedseg.files import read_json

from ..unit.inference.plain_model import plain_model

ON_CPU = ["--device", "cpu", "--disable-tta"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that were never validated."""
    folders = [tmp_path_factory.mktemp(f"model{number}") for number in (0, 1)]
    return [str(plain_model(folder, folds=(fold,))) for fold, folder in enumerate(folders)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return ensemble.main([*map(str, arguments), "-o", "out"])


def test_models_predict_images_in_one_run(models, images, tmp_path):
    assert run("-i", images, "-m", *models, "--weights", "3", "1", "--png", *ON_CPU) == 0
    assert read_json(tmp_path / "out" / "predictions.json")["model"]["weights"] == [0.75, 0.25]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png"}


def test_the_command_writes_what_it_is_asked_for(models, images, tmp_path):
    for option, name in (
        ("--overlay", "a_overlay.png"),
        ("--probabilities", "a_probabilities.npz"),
        ("--uncertainty", "a_uncertainty.nii.gz"),
    ):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert run("-i", images, "-m", *models, "--weights", "equal", option, *ON_CPU) == 0
        written = {path.name for path in (tmp_path / "out").glob("a*")}
        assert written == {"a.nii.gz", name}


def test_folders_of_probabilities_are_combined_without_the_missing_case(
    models, images, tmp_path, capsys
):
    for folder, model in zip(("p0", "p1"), models, strict=True):
        predict.main(
            ["-i", str(images), "-o", folder, "-m", model, "--probabilities", "uint8", *ON_CPU]
        )
    (tmp_path / "p1" / "a_probabilities.npz").unlink()
    assert run("p0", "p1", "--weights", "equal") == ensemble.EXIT_SOME_FAILED
    assert "failed: a: a is missing in 1 of 2 folders" in capsys.readouterr().out
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    assert (tmp_path / "out" / "b.nii.gz").is_file()


def test_one_bad_image_stops_nothing(models, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "a.png").write_bytes(b"garbage")
    assert run("-i", "images", "-m", *models, "--weights", "equal", *ON_CPU) == 1
    assert (tmp_path / "out" / "b.nii.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("p0", "two folders of probabilities at least"),
        ("-i images -m one", "two folders of probabilities at least"),
        ("-m one two", "or images and two models"),
        ("-i images", "or images and two models"),
        ("p0 p1 -m one two", "are not for folders of probabilities"),
        ("p0 p1 --disable-tta", "are not for folders of probabilities"),
        ("p0 p1 --checkpoint best", "are not for folders of probabilities"),
        ("p0 p1", "holds no probabilities"),
        ("p0 p1 --weights best", "are no weights"),
        ("-i images -m one two", "no trained model"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, message, capsys):
    assert run(*arguments.split()) == 2
    assert message in capsys.readouterr().err


def test_models_that_were_never_validated_need_weights(models, images, capsys):
    assert run("-i", images, "-m", *models, *ON_CPU) == 2
    assert "--weights equal" in capsys.readouterr().err
