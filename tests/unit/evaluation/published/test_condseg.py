"""ConDSeg's scores."""

from __future__ import annotations

import numpy as np

from nnmedseg.evaluation.published import condseg


def test_scores_of_images_and_of_empty_ones(golden, assert_golden):
    arrays = golden("condseg_losses")
    predictions, masks = arrays["input_pred_mask"], arrays["input_target_mask"]
    empty = np.zeros_like(masks[:1])
    scores = condseg.scores(
        np.concatenate([predictions, empty, predictions[:1], empty]),
        np.concatenate([masks, masks[:1], empty, empty]),
    )
    assert list(scores) == ["iou", "dice", "recall", "precision", "accuracy", "f2"]
    assert_golden(np.stack(list(scores.values()), axis=1), arrays, "output_32")


def test_an_empty_prediction_has_precision_one():
    scores = condseg.scores(np.zeros((1, 4, 4)), np.ones((1, 4, 4)))
    assert scores["precision"] == 1


def test_exactly_one_half_is_background():
    half = np.full((1, 4, 4), 0.5)
    assert condseg.scores(half, half)["recall"] == 1  # both are empty
    assert condseg.scores(half, half + 0.1)["recall"] < 1e-9
