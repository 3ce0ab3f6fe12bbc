"""A model folder as a function of arrays and PIL images."""

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

import nnmedseg
from nnmedseg import Predictor
from nnmedseg.errors import DataError, UserError
from nnmedseg.files import write_json
from nnmedseg.inference.tile_batches import TileBatches

from .plain_model import plain_model

PIXELS = np.random.default_rng(0).integers(0, 256, (21, 33, 3), np.uint8)
REMOVING_EVERYTHING = {
    "format_version": 1,
    "dimensions": 2,
    "unit": "px",
    "folds": {},
    "targets": [
        {
            "labels": [1],
            "inside": 1,
            "outside": 0,
            "steps": [{"name": "remove_small", "size": 1e9}],
        }
    ],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return plain_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor.from_folder(model, device="cpu")


@pytest.fixture(scope="module")
def volume_predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = plain_model(
        folder, patch_size=(8, 16, 16), reader="SimpleITKIO", channels=1, spacing=(2.0, 1.0, 1.0)
    )
    return Predictor.from_folder(model, device="cpu")


def test_labels_are_those_of_the_command(model, predictor, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    nnmedseg.predict(tmp_path / "image.png", tmp_path / "out", model, device="cpu")
    mask = SimpleITK.ReadImage(str(tmp_path / "out" / "image.nii.gz"))
    labels = predictor(PIXELS)
    assert labels.max() > 0
    assert np.array_equal(labels, SimpleITK.GetArrayFromImage(mask)[0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_taken(predictor, mode):
    picture = Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    assert predictor(picture).shape == PIXELS.shape[:2]


def test_alpha_changes_nothing(predictor):
    picture = Image.fromarray(PIXELS)
    with_alpha = picture.copy()
    with_alpha.putalpha(77)
    assert np.array_equal(predictor(with_alpha), predictor(picture))


def test_a_list_gives_a_list(predictor):
    first, second = predictor([PIXELS, Image.fromarray(PIXELS[:15])])
    assert (first.shape, second.shape) == ((21, 33), (15, 33))
    assert np.array_equal(first, predictor(PIXELS))


def test_pictures_of_a_list_share_batches_and_get_the_labels_that_each_gets_alone(model):
    predictor = Predictor.from_folder(model, device="cpu")
    pictures = [PIXELS[:height] for height in (21, 15, 16, 9, 20)]
    alone = [predictor(picture) for picture in pictures]
    predictor.model.batches = TileBatches(torch.device("cpu"))
    predictor.model.batches.size = 32  # as on an accelerator; an image alone asks for 8
    calls = []
    network = predictor.model.networks[0]
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    together = predictor(pictures)
    assert max(calls) == 32
    assert all(np.array_equal(*pair) for pair in zip(together, alone, strict=True))


def test_a_batch_of_pictures_is_an_array_of_four_axes(predictor):
    labels = predictor(np.stack([PIXELS, PIXELS[::-1]]))
    assert np.array_equal(labels[1], predictor(PIXELS[::-1]))


def test_probabilities_add_up_to_one_and_belong_to_the_labels(predictor):
    prediction = predictor.predict(PIXELS, probabilities=True, uncertainty=True)
    probabilities = prediction.probabilities.astype(np.float32)
    assert probabilities.shape == (2, 21, 33)
    assert np.allclose(probabilities.sum(axis=0), 1, atol=2e-3)
    clear = np.abs(probabilities[0] - probabilities[1]) > 1e-2
    assert np.array_equal(probabilities.argmax(0)[clear], prediction.labels[clear])
    assert prediction.uncertainty.shape == (21, 33)
    assert 0 <= prediction.uncertainty.min() < prediction.uncertainty.max() <= 1


def test_a_volume_needs_its_spacing(volume_predictor):
    with pytest.raises(DataError, match="distances of its slices"):
        volume_predictor(np.zeros((10, 20, 20), np.float32))


def test_a_volume_is_resampled_by_its_spacing(volume_predictor):
    volume = np.random.default_rng(0).normal(size=(10, 20, 24)).astype(np.float32)
    said = [
        volume_predictor.predict(volume, spacing, probabilities=True).probabilities
        for spacing in ((2.0, 1.0, 1.0), (4.0, 1.5, 1.5))
    ]
    assert said[0].shape == said[1].shape == (2, *volume.shape)
    assert not np.allclose(*said, atol=1e-2)


def test_other_shapes_are_errors(predictor, volume_predictor):
    with pytest.raises(DataError, match=r"shape \(H, W\)"):
        predictor.predict(np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(DataError, match="takes volumes"):
        volume_predictor(np.zeros((2, 10, 20, 20)), (1, 1, 1))


def test_numbers_that_are_no_pixels_are_an_error(predictor):
    with pytest.raises(DataError, match="trained on images of 8 bits"):
        predictor(PIXELS / 255)


def test_post_processing_is_done_unless_switched_off(tmp_path):
    model = plain_model(tmp_path)
    plain = Predictor.from_folder(model, device="cpu")(PIXELS)
    write_json(REMOVING_EVERYTHING, model / "postprocessing.json")
    assert plain.max() == 1
    assert Predictor.from_folder(model, device="cpu")(PIXELS).max() == 0
    kept = Predictor.from_folder(model, device="cpu", postprocessing=False)(PIXELS)
    assert np.array_equal(kept, plain)


def test_whole_images_are_seen_at_once(model, predictor):
    whole = Predictor.from_folder(model, device="cpu", whole_images=True)
    assert whole.model._patch_for((1, 21, 33)) == (24, 36)
    assert whole.model._patch_for((1, 9, 20)) == (16, 24)
    assert whole.model._patch_for((1, 500, 500)) == (16, 24)
    assert whole(PIXELS).shape == (21, 33)


def test_a_network_that_looks_at_everything_takes_no_whole_images(tmp_path):
    model = plain_model(tmp_path, network="rosper")
    with pytest.raises(UserError, match="trained on patches"):
        Predictor.from_folder(model, device="cpu", whole_images=True)
