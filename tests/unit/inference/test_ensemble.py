"""Ensembles of folders of probabilities and of models in one run."""

import shutil

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import nnmedseg
from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.inference.ensembles.mean import shares
from nnmedseg.inference.outputs.probabilities import read_probabilities

from .plain_model import plain_model

OPTIONS = {"device": "cpu", "mirroring": False}


def labels_in(folder, case):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / f"{case}.nii.gz")))


def validate(model, dice, fold=0):
    """Note a mean validation Dice in a model folder."""
    (model / f"fold_{fold}" / "validation").mkdir()
    summary = {"foreground_mean": {"Dice": dice}}
    write_json(summary, model / f"fold_{fold}" / "validation" / "summary.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of different weights, with mean validation Dice of 0.9 and 0.6."""
    made = []
    for number, dice in ((0, 0.9), (1, 0.6)):
        model = plain_model(tmp_path_factory.mktemp(f"model{number}"), folds=(number,))
        validate(model, dice, number)
        made.append(model)
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = random.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def folders(models, images, tmp_path_factory):
    """What both models write with ``--probabilities``."""
    made = []
    for number, model in enumerate(models):
        folder = tmp_path_factory.mktemp(f"probabilities{number}")
        nnmedseg.predict(images, folder, model, probabilities="float16", **OPTIONS)
        made.append(folder)
    return made


@pytest.fixture
def copies(folders, tmp_path):
    """The folders, for tests that change them."""
    return [shutil.copytree(folder, tmp_path / f"f{n}") for n, folder in enumerate(folders)]


def combine(folders, output, **changes):
    return nnmedseg.ensemble(output, folders=folders, **changes)


def mean_of(folders, case, weights):
    stored = [read_probabilities(folder / f"{case}_probabilities.npz") for folder in folders]
    return sum(w * s.probabilities.astype(float) for w, s in zip(weights, stored, strict=True))


def test_masks_are_where_the_weighted_mean_is_largest(folders, tmp_path):
    combine(folders, tmp_path / "out", weights=[3, 1])
    mean = mean_of(folders, "a", [0.75, 0.25])
    assert np.array_equal(labels_in(tmp_path / "out", "a"), mean.argmax(axis=0))


def test_an_ensemble_is_neither_of_its_models(folders, tmp_path):
    combine(folders, tmp_path / "out", weights="equal")
    mask = labels_in(tmp_path / "out", "a")
    assert not any(np.array_equal(mask, labels_in(folder, "a")) for folder in folders)


def test_weights_follow_the_validation(folders, tmp_path):
    combine(folders, tmp_path / "out")
    model = read_json(tmp_path / "out" / "predictions.json")["model"]
    assert model["weights"] == pytest.approx([0.6, 0.4])
    assert model["weighted_by"] == "validation"


def test_the_manifest_names_all_models(folders, models, tmp_path):
    combine(folders, tmp_path / "out")
    members = read_json(tmp_path / "out" / "predictions.json")["model"]["ensemble"]
    assert [set(each["checkpoint_sha256"]) for each in members] == [{"0"}, {"1"}]


def test_models_in_one_run_give_what_their_folders_give(folders, models, images, tmp_path):
    combine(folders, tmp_path / "folders")
    nnmedseg.ensemble(tmp_path / "models", images=images, models=models, **OPTIONS)
    for case in ("a", "b"):
        assert np.array_equal(
            labels_in(tmp_path / "folders", case), labels_in(tmp_path / "models", case)
        )


def test_models_in_one_run_write_no_probabilities(models, images, tmp_path):
    nnmedseg.ensemble(tmp_path / "out", images=images, models=models, png=True, **OPTIONS)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.nii.gz", "a.png", "b.nii.gz", "b.png", "predictions.json"}


def test_a_missing_case_is_reported_by_name_and_the_rest_is_combined(copies, tmp_path):
    (copies[1] / "a_probabilities.npz").unlink()
    manifest = combine(copies, tmp_path / "out")
    assert [outcome.case for outcome in manifest.failed] == ["a"]
    assert str(copies[1]) in manifest.failed[0].message
    assert (tmp_path / "out" / "b.nii.gz").is_file()


def test_a_damaged_file_stops_nothing_else(copies, tmp_path):
    file = copies[0] / "b_probabilities.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert [each.case for each in combine(copies, tmp_path / "out").failed] == ["b"]
    assert (tmp_path / "out" / "a.nii.gz").is_file()


def test_a_second_run_skips_what_is_complete(copies, tmp_path):
    combine(copies, tmp_path / "out")
    before = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    combine(copies, tmp_path / "out")
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == before


def test_other_weights_combine_again(copies, tmp_path):
    combine(copies, tmp_path / "out")
    before = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    combine(copies, tmp_path / "out", weights="equal")
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns > before


def test_models_of_other_labels_are_refused(folders, images, models, tmp_path):
    other = plain_model(tmp_path / "other", labels={"vessel": 1})
    with pytest.raises(UserError, match="the labels differ"):
        nnmedseg.ensemble(
            tmp_path / "out", images=images, models=[models[0], other], weights="equal", **OPTIONS
        )


def test_regions_in_another_order_are_refused(tmp_path, images):
    regions = {"whole": [1, 2], "core": 2}
    models = [
        plain_model(tmp_path / name, labels=labels, regions_class_order=[1, 2])
        for name, labels in (("a", regions), ("b", dict(reversed(regions.items()))))
    ]
    with pytest.raises(UserError, match="the labels differ"):
        nnmedseg.ensemble(
            tmp_path / "out", images=images, models=models, weights="equal", **OPTIONS
        )


def test_a_model_without_validation_needs_weights(images, models, tmp_path):
    unvalidated = plain_model(tmp_path / "model")
    with pytest.raises(UserError, match="no validation to weight by") as error:
        nnmedseg.ensemble(
            tmp_path / "out", images=images, models=[models[0], unvalidated], **OPTIONS
        )
    assert str(unvalidated) in str(error.value)


@pytest.mark.parametrize("weights", ["best", [1], [1, -1], [0, 0], [1, float("nan")]], ids=str)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(UserError, match="weight"):
        shares(weights, [0.9, 0.8], ["a", "b"])


def test_nnunets_folders_are_combined_on_the_grid_of_their_masks(tmp_path):
    random = np.random.default_rng(0)
    volume = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    volume.SetSpacing((0.5, 0.6, 2.0))
    volume.SetOrigin((1.0, 2.0, 3.0))
    values = [random.dirichlet((1, 1, 1), (3, 4, 5)).transpose(3, 0, 1, 2) for _ in range(2)]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, probabilities in zip(folders, values, strict=True):
        folder.mkdir()
        labels = {"background": 0, "left": 1, "right": 2}
        write_json({"labels": labels, "file_ending": ".nii.gz"}, folder / "dataset.json")
        np.savez_compressed(folder / "v.npz", probabilities=probabilities.astype(np.float32))
        SimpleITK.WriteImage(volume, str(folder / "v.nii.gz"))
    combine(folders, tmp_path / "out", weights="equal")
    written = SimpleITK.ReadImage(str(tmp_path / "out" / "v.nii.gz"))
    assert written.GetSpacing() == pytest.approx((0.5, 0.6, 2.0))
    assert written.GetOrigin() == pytest.approx((1.0, 2.0, 3.0))
    expected = np.mean(values, axis=0).argmax(axis=0)
    assert np.array_equal(SimpleITK.GetArrayFromImage(written), expected)


def test_a_folder_without_probabilities_is_an_error(folders, tmp_path):
    with pytest.raises(NotFoundError, match="holds no probabilities"):
        combine([folders[0], tmp_path], tmp_path / "out")


def test_masks_do_not_take_the_place_of_a_models(copies):
    with pytest.raises(UserError, match="would take the place"):
        combine(copies, copies[0])


def test_options_of_models_are_refused_for_folders(folders, tmp_path):
    with pytest.raises(UserError, match="are not for folders"):
        combine(folders, tmp_path / "out", folds=[0])
