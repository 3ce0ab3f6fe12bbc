"""ProMISe's evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from nnmedseg.evaluation.published import promise


@pytest.fixture
def arrays(golden):
    return golden("promise_metrics")


@pytest.fixture
def scores(arrays):
    predicted = promise.predicted_masks(arrays["input"])
    true = promise.true_masks(arrays["input_true_masks"], predicted.shape[2:])
    return promise.scores(predicted, true)


def test_predictions_are_thresholded_and_opened(arrays, assert_golden):
    assert_golden(promise.predicted_masks(arrays["input"]), arrays, "output_0")


def test_every_metric_of_every_image(arrays, scores, assert_golden):
    assert_golden(np.stack(list(scores.values()), axis=1), arrays, "output_1")


def test_metrics_come_in_the_papers_order(scores):
    assert list(scores) == [
        "mae",
        "dice",
        "iou",
        "precision",
        "recall",
        "f_beta",
        "structure",
        "alignment",
    ]


def test_opening_keeps_what_touches_the_border():
    mask = np.zeros((1, 1, 16, 16))
    mask[..., :3, :3] = 1  # with foreground beyond the border it holds a square of 5
    assert promise.predicted_masks(mask).sum() == 9


def test_opening_removes_specks():
    mask = np.zeros((1, 1, 16, 16))
    mask[..., 6:10, 6:10] = 1
    assert not promise.predicted_masks(mask).any()


def test_one_pixel_in_the_middle_of_a_block_makes_it_foreground():
    masks = np.zeros((1, 1, 8, 8))
    masks[..., 1, 2] = 1  # inside the middle 2 x 2 of its block of 4 x 4
    masks[..., 7, 7] = 1  # a corner, which bilinear reduction does not see
    assert promise.true_masks(masks, (2, 2)).tolist() == [[[[True, False], [False, False]]]]


def test_a_perfect_prediction_has_a_structure_measure_of_one():
    mask = np.zeros((1, 1, 12, 12), bool)
    mask[..., 2:7, 3:9] = True
    assert promise.structure_measure(mask, mask) == pytest.approx(1)


@pytest.mark.parametrize("full", [False, True])
def test_uniform_truth_counts_the_right_pixels(full):
    true = np.full((1, 1, 4, 4), full)
    predicted = true.copy()
    predicted[..., 0, :2] ^= True
    scores = promise.scores(predicted, true)
    assert scores["structure"] == pytest.approx(14 / 16)
    assert scores["alignment"] == pytest.approx(14 / 15)


def test_structure_of_a_mask_on_the_last_row_is_finite():
    true = np.zeros((1, 1, 8, 8), bool)
    true[..., -1, :] = True
    predicted = np.roll(true, -1, axis=2)
    assert np.isfinite(promise.structure_measure(predicted, true))
