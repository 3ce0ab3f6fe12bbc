"""``nnmedseg_find_postprocessing``, and ``nnmedseg_predict`` that does what it has found."""

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy import ndimage

from nnmedseg.cli import find_postprocessing, predict
from nnmedseg.files import read_json, write_json
from nnmedseg.inference.postprocessing.rules import hash_of_validation

from ..unit.inference.plain_model import plain_model
from ..unit.inference.validated_model import validated_model


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def validated(tmp_path):
    """A model whose masks have a speck besides a square."""
    model = validated_model(tmp_path)
    random = np.random.default_rng(0)
    for fold in range(2):
        pairs = []
        for _ in range(6):
            reference = np.zeros((32, 32), np.uint8)
            y, x = random.integers(4, 14, 2)
            reference[y : y + 10, x : x + 10] = 1
            prediction = reference.copy()
            prediction[1, random.integers(0, 32)] = 1
            pairs.append((prediction, reference))
        model.add_fold(fold, pairs)
    return model


def test_it_says_what_helps_and_why(validated, capsys):
    options = ["-m", str(validated.folder), "--references", str(validated.references)]
    assert find_postprocessing.main(options) == 0
    said = capsys.readouterr().out
    assert "label 1: keep largest: Dice 0.99" in said
    assert "12 cases better, 0 worse, p = 0.00024" in said


def test_references_are_found_in_the_workspace(validated, tmp_path):
    place = tmp_path / "nnUNet_preprocessed" / "Dataset001_Test"
    place.mkdir(parents=True)
    validated.references.rename(place / "gt_segmentations")
    assert find_postprocessing.main(["-m", str(validated.folder)]) == 0
    assert read_json(validated.folder / "postprocessing.json")["targets"]


def test_references_that_are_nowhere_are_asked_for(validated, capsys):
    assert find_postprocessing.main(["-m", str(validated.folder)]) == 2
    assert "--references" in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert find_postprocessing.main(["-m", str(tmp_path)]) == 2
    assert "no trained model" in capsys.readouterr().err


@pytest.fixture
def model(tmp_path):
    """A model, told that the largest region is all there is."""
    made = plain_model(tmp_path / "model")
    summary = made / "fold_0" / "validation" / "summary.json"
    write_json({}, summary)
    step = {"name": "keep_largest", "size": 0.0}
    content = {
        "format_version": 1,
        "dimensions": 2,
        "unit": "px",
        "targets": [{"labels": [1], "inside": 1, "outside": 0, "steps": [step]}],
        "folds": {"0": {"validation_sha256": hash_of_validation(summary)}},
    }
    write_json(content, made / "postprocessing.json")
    return made


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


def regions_of(model, image, output, *options):
    arguments = ["-i", image, "-o", str(output), "-m", str(model), "--device", "cpu", *options]
    assert predict.main(arguments) == 0
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(output / "image.nii.gz")))
    return ndimage.label(mask, np.ones((3, 3, 3)))[1]


def test_prediction_does_what_helped(model, image, tmp_path):
    assert regions_of(model, image, tmp_path / "out") == 1


def test_prediction_leaves_it_out_if_told_so(model, image, tmp_path):
    assert regions_of(model, image, tmp_path / "out", "--no-postprocessing") > 1


def test_the_manifest_says_what_was_done(model, image, tmp_path):
    regions_of(model, image, tmp_path / "out")
    said = read_json(tmp_path / "out" / "predictions.json")["model"]["postprocessing"]
    assert said["targets"][0]["steps"] == [{"name": "keep_largest", "size": 0.0}]


def test_what_was_predicted_without_it_is_predicted_again(model, image, tmp_path):
    regions_of(model, image, tmp_path / "out", "--no-postprocessing")
    assert regions_of(model, image, tmp_path / "out") == 1
