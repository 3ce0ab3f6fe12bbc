"""Exported networks, and what the runner makes of images with them, against our own prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.inference.inputs.loading import LoadedCase
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.sharing import onnx_export, onnx_runner
from nnmedseg.inference.sharing.onnx_export import RULES, RUNNER, MeanOfFolds, _compare, export_onnx
from nnmedseg.inference.sharing.onnx_rules import rules_of

from .plain_model import plain_model

TESTS = Path(__file__).parents[2]
PHOTOGRAPHS = sorted(TESTS.glob("data/ISIC2018/**/*.jpg"))
SMALL_OPTIONS = read_json(TESTS / "networks" / "small_options.json")
VOLUME = {"reader": "SimpleITKIO", "patch_size": (12, 20, 24), "channels": 1}


def random_volume(*shape):
    """A smooth volume in an empty frame, with a hole in it."""
    coarse = torch.rand(1, 1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    volume = torch.nn.functional.interpolate(coarse, shape, mode="trilinear")[0].numpy() * 200 + 20
    volume[:, 0], volume[:, :, :3], volume[:, :, :, -2:] = 0, 0, 0
    volume[:, shape[0] // 2, shape[1] // 2 : shape[1] // 2 + 3, shape[2] // 2] = 0
    return volume


def change(model, **settings):
    plans = read_json(model / "plans.json")
    for configuration in plans["configurations"].values():
        configuration.update(settings)
    write_json(plans, model / "plans.json")


class InPyTorch:
    """The network of a model in the place of a session of ONNX Runtime."""

    def __init__(self, predictor):
        self.network = predictor.network

    def run(self, _, inputs):
        with torch.inference_mode():
            return [self.network(torch.from_numpy(inputs["image"])).numpy()]


def both(model, session, image, spacing):
    """Logits and labels by our predictor, and by the runner; with ONNX Runtime if there is one."""
    predictor = MedSegPredictor.from_folder(model)
    data, properties = predictor.preprocess(LoadedCase(image, {"spacing": spacing}, None))
    ours = predictor.predict_logits_from_preprocessed_data(data).float().numpy()
    labels = predictor.predict(data, properties).labels
    rules = json.loads(json.dumps(rules_of(predictor)))
    prepared, back = onnx_runner._preprocess(rules, image, list(spacing))
    np.testing.assert_allclose(prepared, data.numpy(), atol=2e-5)
    theirs = onnx_runner._tiled_logits(rules, prepared, session or InPyTorch(predictor))
    return ours, labels, theirs, onnx_runner._to_labels(rules, theirs, back)


def assert_equal(ours, labels, theirs, found, share=1.0):
    theirs = theirs.astype(np.float32)
    one_step_of_float16 = 2.0**-10 * max(1.0, np.abs(ours).max())
    assert np.abs(ours - theirs).max() <= one_step_of_float16
    assert np.mean(found == labels) >= share
    assert len(np.unique(labels)) > 1


@pytest.fixture(scope="module")
def of_photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    model = plain_model(folder, patch_size=(64, 96))
    change(model, nnmedseg={"input": {"shorter_side": 72}}, preprocessor_name="MedSegPreprocessor")
    difference = export_onnx(model, folder / "out" / "model.onnx")
    return model, str(folder / "out" / "model.onnx"), difference


def test_masks_of_photographs_are_equal(of_photographs):
    model, path, difference = of_photographs
    assert difference < 1e-4
    predictor = MedSegPredictor.from_folder(model)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for photograph in PHOTOGRAPHS[:3]:
        loaded = predictor.load(InputCase("photograph", (photograph,)))
        found = both(model, session, np.float32(loaded.image), (999.0, 1.0, 1.0))
        assert_equal(*found)


def test_the_network_takes_batches_of_images_of_other_sizes(of_photographs):
    _, path, _ = of_photographs
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": np.zeros((2, 3, 100, 48), np.float32)})
    assert logits.shape == (2, 2, 100, 48)


def test_the_runner_is_a_script_that_needs_nothing_else(of_photographs, tmp_path):
    _, path, _ = of_photographs
    image = np.random.default_rng(0).integers(0, 255, (3, 80, 90)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    runner = Path(path).with_name(RUNNER)
    blocked = "import sys; sys.modules.update(torch=None, nnmedseg=None, scipy=None, onnx=None)\n"
    code = f"{blocked}import runpy; del sys.argv[0]; runpy.run_path(sys.argv[0], None, '__main__')"
    arguments = [str(runner), path, str(tmp_path / "image.npy"), str(tmp_path / "mask.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert np.array_equal(np.load(tmp_path / "mask.npy"), onnx_runner.segment(path, image))


LABELS = {"a": 1, "b": 2, "c": 3}


def test_masks_of_resampled_and_cropped_volumes_are_equal(tmp_path):
    model = plain_model(tmp_path, **VOLUME, spacing=(1.5, 1.0, 1.0), labels=LABELS)
    # Where two labels of this untrained network tie, resampling in another order decides.
    found = both(model, None, random_volume(14, 21, 25), (2.0, 1.3, 0.8))
    assert_equal(*found, share=0.999)


def test_slices_that_lie_far_apart_are_resampled_one_by_one(tmp_path):
    model = plain_model(tmp_path, **VOLUME, spacing=(4.0, 1.0, 1.0), labels=LABELS)
    assert_equal(*both(model, None, random_volume(9, 21, 25), (5.0, 1.3, 0.8)))


def test_axes_come_back_in_the_images_order(tmp_path):
    model = plain_model(tmp_path, **VOLUME, labels=LABELS)
    plans = read_json(model / "plans.json")
    write_json(
        {**plans, "transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1]},
        model / "plans.json",
    )
    assert_equal(*both(model, None, random_volume(9, 21, 25), (1.0, 1.0, 1.0)))


@pytest.mark.slow
def test_a_volumes_network_is_exported(tmp_path):
    model = plain_model(tmp_path, **VOLUME, labels=LABELS)
    export_onnx(model, tmp_path / "model.onnx")
    path = str(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="needs its spacing"):
        onnx_runner.segment(path, random_volume(14, 21, 25))
    session = onnxruntime.InferenceSession(path)
    assert_equal(*both(model, session, random_volume(14, 21, 25), (1.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("scheme", "masked"),
    [
        ("CTNormalization", False),
        ("ZScoreNormalization", True),
        ("RescaleTo01Normalization", False),
    ],
)
def test_every_normalisation_is_done_as_in_training(tmp_path, scheme, masked):
    model = plain_model(tmp_path, **VOLUME)
    change(model, normalization_schemes=[scheme], use_mask_for_norm=[masked])
    predictor, image = MedSegPredictor.from_folder(model), random_volume(10, 20, 22)
    expected, _ = predictor.preprocess(LoadedCase(image, {"spacing": (1.0, 1.0, 1.0)}, None))
    found, _ = onnx_runner._preprocess(rules_of(predictor), image, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("intensity", ["divided_by_255", "min_max_255", "imagenet"])
@pytest.mark.parametrize("resize", ["bilinear", "area"])
def test_the_papers_inputs_are_made_as_by_their_code(tmp_path, intensity, resize):
    model = plain_model(tmp_path)
    given = {"intensity": intensity, "resize": resize, "size": [40, 48]}
    change(model, nnmedseg={"released_input": given})
    predictor = MedSegPredictor.from_folder(model)
    image = np.random.default_rng(0).integers(0, 255, (3, 1, 70, 33)).astype(np.float32)
    spacing = (999.0, 1.0, 1.0)
    expected, _ = predictor.preprocess(LoadedCase(image, {"spacing": spacing}, None))
    found, _ = onnx_runner._preprocess(rules_of(predictor), image, list(spacing))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_regions_are_painted_in_their_order(tmp_path):
    regions = {"whole": [1, 2], "core": [2]}
    model = plain_model(tmp_path, labels=regions, regions_class_order=[1, 2])
    image = np.random.default_rng(0).random((3, 1, 20, 30)).astype(np.float32) * 255
    assert_equal(*both(model, None, image, (999.0, 1.0, 1.0)))


def test_the_file_says_what_it_was_made_of(of_photographs):
    model, path, _ = of_photographs
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    rules = json.loads(metadata[RULES])
    assert rules["labels"] == {"background": 0, "lesion": 1}
    assert rules["folds"] == ["0"]
    assert set(rules["checkpoint_sha256"]) == {"0"}
    assert rules["resize"]["shorter_side"] == 72
    assert str(model.parent) not in metadata[RULES]


def test_a_file_that_computes_something_else_is_refused(of_photographs, tmp_path):
    _, path, _ = of_photographs
    other = MedSegPredictor.from_folder(plain_model(tmp_path, folds=(1,))).network
    with pytest.raises(UserError, match="computes something else"):
        _compare(other, Path(path), [(1, 3, 64, 96)])


def test_folds_are_averaged(tmp_path):
    networks = MedSegPredictor.from_folder(plain_model(tmp_path, folds=(0, 1))).networks
    image = torch.rand(1, 3, 16, 24)
    expected = (networks[0](image) + networks[1](image)) / 2
    torch.testing.assert_close(MeanOfFolds(networks)(image), expected)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package\n.*nnmedseg\[onnx\]"):
        export_onnx(plain_model(tmp_path), tmp_path / "model.onnx")


def test_an_unknown_normalisation_is_refused(tmp_path):
    model = plain_model(tmp_path, **VOLUME)
    predictor = MedSegPredictor.from_folder(model)
    predictor.configuration_manager.configuration["normalization_schemes"] = ["Mine"]
    with pytest.raises(UserError, match="no normalisation Mine"):
        rules_of(predictor)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["rosper", "asc", "heteromedseg", "condseg", "promise_apm"])
def test_every_papers_network_is_exported(tmp_path, network):
    options = SMALL_OPTIONS.get(network)
    model = plain_model(tmp_path, patch_size=(32, 32), network=network, network_options=options)
    difference = export_onnx(model, tmp_path / "model.onnx")
    assert difference < 1e-4
