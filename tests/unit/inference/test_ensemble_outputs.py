"""What ensembles write beside masks."""

import imagecodecs
import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

import nnmedseg
from nnmedseg.errors import UserError
from nnmedseg.inference.inputs.cases import LoadedCase
from nnmedseg.inference.outputs.overlays import draw_overlay
from nnmedseg.inference.outputs.probabilities import read_probabilities

from ..data.dicom_files import oblique_image
from .plain_model import plain_model

OPTIONS = {"device": "cpu", "mirroring": False, "weights": [3, 1]}
ALL = {"png": True, "overlay": True, "probabilities": "float16", "uncertainty": True}
HALF = 2**-11
"""float16 rounds numbers up to 1 by no more."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of three classes and of different weights."""
    return [
        plain_model(tmp_path_factory.mktemp(f"model{n}"), labels={"a": 1, "b": 2}, folds=(n,))
        for n in (0, 1)
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def written(models, images, tmp_path_factory):
    """What an ensemble of models writes when everything is asked for."""
    output = tmp_path_factory.mktemp("ensemble")
    nnmedseg.ensemble(output, images=images, models=models, **OPTIONS, **ALL)
    return output


@pytest.fixture(scope="module")
def folders(models, images, tmp_path_factory):
    """The probabilities of each model."""
    made = [tmp_path_factory.mktemp(f"probabilities{n}") for n in (0, 1)]
    for folder, model in zip(made, models, strict=True):
        nnmedseg.predict(
            images, folder, model, probabilities="float16", device="cpu", mirroring=False
        )
    return made


def probabilities_in(folder):
    return read_probabilities(folder / "a_probabilities.npz").probabilities.astype(np.float64)


def map_in(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def mean_of(folders):
    return 0.75 * probabilities_in(folders[0]) + 0.25 * probabilities_in(folders[1])


def test_everything_that_was_asked_for_is_written(written):
    endings = (".nii.gz", ".png", "_overlay.png", "_probabilities.npz", "_uncertainty.nii.gz")
    assert {path.name for path in written.iterdir()} == {
        "predictions.json",
        *(f"a{ending}" for ending in endings),
    }


def test_probabilities_are_the_weighted_mean(written, folders):
    assert np.abs(probabilities_in(written) - mean_of(folders)).max() <= 2 * HALF
    assert read_probabilities(written / "a_probabilities.npz").labels == ("background", "a", "b")


def test_uncertainty_is_the_entropy_of_the_mean(written, folders):
    mean = mean_of(folders)
    entropy = -(mean * np.log(mean)).sum(axis=0) / np.log(3)
    assert np.abs(map_in(written / "a_uncertainty.nii.gz") - entropy).max() < 0.002


def test_uncertainty_of_regions_is_the_mean_of_theirs(images, tmp_path):
    regions = {"whole": [1, 2], "core": [2]}
    models = [
        plain_model(tmp_path / f"m{n}", labels=regions, regions_class_order=[1, 2], folds=(n,))
        for n in (0, 1)
    ]
    output = tmp_path / "out"
    nnmedseg.ensemble(output, images=images, models=models, **OPTIONS, **ALL)
    mean = probabilities_in(output)
    entropies = -(mean * np.log2(mean) + (1 - mean) * np.log2(1 - mean))
    uncertainty = map_in(output / "a_uncertainty.nii.gz")
    assert np.abs(uncertainty - entropies.mean(axis=0)).max() < 0.002


def test_folders_give_what_their_models_give_in_one_run(written, folders, tmp_path):
    wanted = {**ALL, "overlay": False}
    nnmedseg.ensemble(tmp_path, folders=folders, weights=[3, 1], **wanted)
    assert np.abs(probabilities_in(tmp_path) - probabilities_in(written)).max() <= HALF
    for name in ("a.nii.gz", "a_uncertainty.nii.gz"):
        assert np.array_equal(map_in(tmp_path / name), map_in(written / name))
    assert (tmp_path / "a.png").read_bytes() == (written / "a.png").read_bytes()


def test_an_overlay_shows_the_ensembles_labels_on_the_image(written, images):
    pixels = np.moveaxis(np.array(Image.open(images / "a.png")), -1, 0)[:, None]
    loaded = LoadedCase(pixels, {"spacing": (1.0, 1.0, 1.0)})
    drawn = draw_overlay(map_in(written / "a.nii.gz"), loaded)
    stored = imagecodecs.png_decode((written / "a_overlay.png").read_bytes())
    assert np.array_equal(stored, drawn)


def test_overlays_of_folders_are_refused(folders, tmp_path):
    with pytest.raises(UserError, match="an overlay needs the images"):
        nnmedseg.ensemble(tmp_path / "out", folders=folders, weights="equal", overlay=True)
    assert not (tmp_path / "out").exists()


def test_an_ensemble_can_be_part_of_another(written, folders, tmp_path):
    nnmedseg.ensemble(
        tmp_path, folders=[written, folders[0]], weights=[1, 1], probabilities="uint8"
    )
    expected = (probabilities_in(written) + probabilities_in(folders[0])) / 2
    assert np.abs(probabilities_in(tmp_path) - expected).max() <= 0.5 / 255 + HALF


def test_readers_that_turn_the_axes_give_everything_on_the_grid_of_the_file(tmp_path):
    """The first model sees the volume turned, the second as it is stored."""
    image = oblique_image((6, 20, 30))
    (tmp_path / "images").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "images" / "a_0000.nii.gz"))
    models = [
        plain_model(tmp_path / reader, reader=reader, patch_size=(4, 16, 24), channels=1)
        for reader in ("NibabelIOWithReorient", "SimpleITKIO")
    ]
    output = tmp_path / "out"
    wanted = {**ALL, "png": False}
    nnmedseg.ensemble(output, images=tmp_path / "images", models=models, **OPTIONS, **wanted)
    mask = nibabel.load(output / "a.nii.gz")
    assert mask.shape == (30, 20, 6)
    assert np.allclose(mask.affine, nibabel.load(output / "a_uncertainty.nii.gz").affine)
    stored = nibabel.load(tmp_path / "images" / "a_0000.nii.gz")
    assert np.allclose(mask.affine, stored.affine, atol=1e-4)
    pixels = np.asarray(stored.dataobj).T[None].astype(np.float32)
    loaded = LoadedCase(pixels, {"spacing": image.GetSpacing()[::-1]})
    drawn = draw_overlay(map_in(output / "a.nii.gz"), loaded)
    overlay = imagecodecs.png_decode((output / "a_overlay.png").read_bytes())
    assert np.array_equal(overlay, drawn)
