"""The post-processing beside the runner of an exported model, against that of the predictor."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from nnmedseg import Predictor
from nnmedseg.files import write_json
from nnmedseg.inference.postprocessing.mask_steps import STEPS
from nnmedseg.inference.postprocessing.rules import (
    FORMAT_VERSION,
    POSTPROCESSING_FILE,
    PostProcessing,
    Step,
    Target,
    TargetSteps,
)
from nnmedseg.inference.sharing.onnx_export import RUNNER, export_onnx
from nnmedseg.inference.sharing.onnx_postprocessing import postprocessed

from .plain_model import plain_model

SIZES = {"keep_largest": 0.0, "remove_small": 9.0, "fill_holes": 0.0, "opening": 1.6, "closing": 2}
SHAPES = {2: (3, 40, 50), 3: (14, 20, 24)}
SPACING = (1.5, 0.8, 1.0)


def label_map(shape, labels, seed=0):
    """Smooth regions of several labels, with holes, corners that touch, and parts at the border."""
    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.random(shape), (0.6, 1, 1)) for _ in range(labels + 1)]
    labelled = np.argmax(fields, axis=0).astype(np.uint8)
    return np.where(random.random(shape) < 0.02, np.uint8(0), labelled)


def of_labels(dimensions, *steps):
    """Post-processing with the same steps for labels 1 and 2."""
    targets = [TargetSteps(Target((label,), label), steps) for label in (1, 2)]
    return PostProcessing(dimensions, "mm", tuple(targets))


def both(rules, labels, spacing=SPACING):
    return postprocessed(labels, rules.describe(), spacing), rules(labels, spacing)


@pytest.mark.parametrize("dimensions", SHAPES)
@pytest.mark.parametrize("name", STEPS)
def test_every_step_does_the_same(name, dimensions):
    for seed in range(5):
        labels = label_map(SHAPES[dimensions], 2, seed)
        found, expected = both(of_labels(dimensions, Step(name, SIZES[name])), labels)
        assert np.array_equal(found, expected)
        assert not np.array_equal(found, labels)


@pytest.mark.parametrize("dimensions", SHAPES)
def test_steps_follow_each_other(dimensions):
    steps = [Step(name, SIZES[name]) for name in ("closing", "fill_holes", "keep_largest")]
    found, expected = both(of_labels(dimensions, *steps), label_map(SHAPES[dimensions], 2))
    assert np.array_equal(found, expected)


def test_regions_within_regions_fall_back_to_those_around_them():
    targets = (
        TargetSteps(Target((1, 2), 1), (Step("fill_holes"),)),
        TargetSteps(Target((2,), 2, outside=1), (Step("keep_largest"),)),
    )
    found, expected = both(PostProcessing(2, "px", targets), label_map(SHAPES[2], 2))
    assert np.array_equal(found, expected)


def test_of_regions_of_one_size_the_first_is_kept():
    labels = np.zeros((1, 5, 9), np.uint8)
    labels[0, 0, 4:7] = labels[0, 2:, 0] = labels[0, 4, 5:8] = 1
    found, expected = both(of_labels(2, Step("keep_largest")), labels)
    assert np.array_equal(found, expected)
    assert found[0, 0].any()


def test_a_region_that_winds_is_one_region():
    labels = np.ones((1, 41, 41), np.uint8)
    for row in range(1, 41, 4):
        labels[0, row, :-1] = labels[0, row + 2, 1:] = 0
    found, expected = both(of_labels(2, Step("keep_largest")), labels)
    assert np.array_equal(found, expected)
    assert np.array_equal(found, labels)


def test_the_given_labels_stay_as_they_are():
    labels = label_map(SHAPES[2], 2)
    before = labels.copy()
    postprocessed(labels, of_labels(2, Step("keep_largest")).describe(), SPACING)
    assert np.array_equal(labels, before)


def test_the_runner_gives_the_predictors_post_processed_labels(tmp_path):
    model = plain_model(tmp_path)
    learnt = PostProcessing(2, "px", (TargetSteps(Target((1,), 1), (Step("keep_largest"),)),))
    content = {"format_version": FORMAT_VERSION, "folds": {}, **learnt.describe()}
    write_json(content, model / POSTPROCESSING_FILE)
    export_onnx(model, tmp_path / "out" / "model.onnx")
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    np.save(tmp_path / "image.npy", np.float32(image.transpose(2, 0, 1)))
    blocked = "import sys; sys.modules.update(torch=None, nnmedseg=None, scipy=None, onnx=None)\n"
    code = f"{blocked}import runpy; del sys.argv[0]; sys.path.insert(0, {str(tmp_path / 'out')!r})"
    run = "; runpy.run_path(sys.argv[0], None, '__main__')"
    files = [tmp_path / "out" / RUNNER, tmp_path / "out" / "model.onnx"]
    arguments = [*files, tmp_path / "image.npy", tmp_path / "mask.npy"]
    subprocess.run([sys.executable, "-c", code + run, *map(str, arguments)], check=True)
    found = np.load(tmp_path / "mask.npy")
    without = Predictor.from_folder(model, device="cpu", postprocessing=False)(image)
    assert np.array_equal(found, Predictor.from_folder(model, device="cpu")(image))
    assert not np.array_equal(found, without)
