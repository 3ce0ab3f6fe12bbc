"""HeteroMedSeg's Synapse test."""

from __future__ import annotations

import numpy as np
import pytest
from medpy.metric import binary

from nnmedseg.errors import SizeError
from nnmedseg.evaluation.published import synapse


@pytest.fixture
def metrics(golden):
    return golden("synapse_metrics")


@pytest.fixture
def slices(golden):
    return golden("synapse_resample")


def volumes(arrays):
    return zip(arrays["input"], arrays["input_label"], strict=True)


def scores_of_all(arrays):
    return [synapse.scores(*volume) for volume in volumes(arrays)]


def test_scores_of_every_volume_and_class(metrics, assert_golden):
    assert_golden(scores_of_all(metrics), metrics, "output_0")


def test_means_over_volumes(metrics, assert_golden):
    assert_golden(synapse.mean_scores(scores_of_all(metrics))[0], metrics, "output_1")


def test_means_over_classes(metrics, assert_golden):
    assert_golden(synapse.mean_scores(scores_of_all(metrics))[1], metrics, "output_2")


def test_metrics_before_the_rules_for_empty_masks(metrics, assert_golden):
    bare = [
        [synapse.dice_and_hd95(predicted == k, label == k) for k in range(1, 9)]
        for predicted, label in volumes(metrics)
    ]
    assert_golden(np.nan_to_num(bare, nan=-1), metrics, "output_3")


def test_an_invented_class_has_full_marks_and_a_missed_one_none():
    volume = np.ones((2, 4, 4), np.uint8)
    scores = synapse.scores(volume, 2 * volume, num_classes=3)
    assert scores.tolist() == [[1, 0], [0, 0], [0, 0]]


def test_a_border_at_the_edge_of_the_volume_is_one():
    predicted, true = np.zeros((2, 4, 20, 20), bool)
    predicted[:, :9, :9], true[:3, :14, :] = True, True
    assert synapse.dice_and_hd95(predicted, true)[1] == binary.hd95(predicted, true)


def test_volumes_of_another_shape_are_refused():
    with pytest.raises(SizeError, match="differ in shape"):
        synapse.scores(np.zeros((2, 4, 4)), np.zeros((1, 4, 4)))


@pytest.mark.parametrize(("ending", "output"), [("", 0), ("_1", 3)], ids=["square", "oblong"])
class TestSlices:
    """A slice of each shape; its three outputs follow each other in the fixture."""

    def test_input_of_the_network(self, slices, assert_golden, ending, output):
        image = synapse.network_input(slices[f"input{ending}"], 28)
        assert image.dtype == np.float32
        assert_golden(image, slices, f"output_{output}")

    def test_labels_for_training(self, slices, assert_golden, ending, output):
        labels = synapse.resized_labels(slices[f"input_label{ending}"], (28, 28))
        assert_golden(labels, slices, f"output_{output + 1}")

    def test_prediction_at_the_size_of_the_slice(self, slices, assert_golden, ending, output):
        prediction = slices[f"input_prediction{ending}"]
        labels = synapse.resized_labels(prediction, slices[f"input{ending}"].shape)
        assert_golden(labels, slices, f"output_{output + 2}")


def test_a_slice_of_the_networks_size_is_only_rescaled():
    image = np.random.default_rng(0).random((28, 28), np.float32)
    np.testing.assert_array_equal(synapse.network_input(image, 28)[0, 0], (image - 0.5) / 0.5)
