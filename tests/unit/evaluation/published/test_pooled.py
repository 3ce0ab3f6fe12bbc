"""RoSPER-Net's and ASC-Seg's pooled scores."""

from __future__ import annotations

import numpy as np
import pytest

from nnmedseg.errors import SizeError
from nnmedseg.evaluation.published import pooled

PROBABILITIES = np.array([[[0.9, 0.2], [0.4, 0.7]], [[0.1, 0.6], [0.3, 0.5]]])
MASKS = np.array([[[1, 0], [0, 1]], [[0, 1], [0.25, 0]]])


def test_counts_of_the_worked_example():
    counts = pooled.count(PROBABILITIES, MASKS)
    assert (counts.true_positive, counts.false_positive) == (3, 1)
    assert (counts.false_negative, counts.true_negative) == (0, 4)


def test_scores_of_the_worked_example():
    assert pooled.scores(pooled.count(PROBABILITIES, MASKS)) == pytest.approx(
        {
            "iou": 0.75,
            "dice": 0.857142857,
            "accuracy": 0.875,
            "specificity": 0.8,
            "sensitivity": 1.0,
            "precision": 0.75,
            "f_beta": 0.795918367,
        }
    )


def test_images_may_be_counted_one_by_one():
    first, second = (pooled.count(PROBABILITIES[[k]], MASKS[[k]]) for k in (0, 1))
    assert first + second == pooled.count(PROBABILITIES, MASKS)


def test_scores_without_a_denominator_are_zero():
    empty = np.zeros((1, 2, 2))
    scores = pooled.scores(pooled.count(empty, empty))
    assert {name for name, value in scores.items() if value == 0} == {
        "iou",
        "dice",
        "sensitivity",
        "precision",
        "f_beta",
    }


def test_masks_of_another_shape_are_refused():
    with pytest.raises(SizeError, match=r"\(2, 2, 2\) and \(1, 2, 2\)"):
        pooled.count(PROBABILITIES, MASKS[:1])
