"""HeteroMedSeg's scores of binary data sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from nnmedseg.evaluation.published import heteromedseg


@pytest.fixture
def masks(golden):
    arrays = golden("synapse_metrics")
    return list(zip(arrays["input_binary"] > 0, arrays["input_binary_mask"] > 0, strict=True))


def test_scores_of_images(golden, assert_golden):
    arrays = golden("heteromedseg_losses")
    scores = heteromedseg.scores(expit(arrays["input_binary"]), arrays["input_binary_mask"])
    assert list(scores) == ["iou", "dice", "accuracy", "precision", "recall", "f1"]
    assert_golden(np.stack(list(scores.values()), axis=1), arrays, "output_8")


def test_masks_are_truncated_to_integers():
    scores = heteromedseg.scores(np.ones((1, 2, 2)), np.array([[[1.0, 0.9], [0.5, 0.0]]]))
    assert scores["precision"] == 0.25


def test_hd95_of_regions(golden, assert_golden, masks):
    distances = [heteromedseg.hd95_of_regions(*pair) for pair in masks]
    assert_golden(distances, golden("synapse_metrics"), "output_4")


def test_hd95_of_contours(golden, assert_golden, masks):
    distances = [heteromedseg.hd95_of_contours(*pair) for pair in masks]
    assert_golden(distances, golden("synapse_metrics"), "output_5")


@pytest.mark.parametrize("hd95", [heteromedseg.hd95_of_regions, heteromedseg.hd95_of_contours])
def test_an_empty_mask_has_no_distance(hd95):
    assert np.isnan(hd95(np.zeros((4, 4), bool), np.ones((4, 4), bool)))
