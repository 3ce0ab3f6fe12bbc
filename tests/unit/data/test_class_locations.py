"""Pixels of each class, beside those that nnU-Net draws."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.data.class_locations import (
    Locations,
    classes_to_locate,
    sample_locations,
    to_flat,
)
from nnmedseg.errors import DataError

DESCRIPTIONS = {
    "labels": {"background": 0, "a": 1, "b": 2, "c": 3},
    "ignore": {"background": 0, "a": 1, "b": 2, "ignore": 3},
    "regions": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "single": 3},
    "regions and ignore": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
    "lists of one": {"background": 0, "a": [1], "b": [2]},
}


def nnunets_classes(labels):
    manager = LabelManager(labels, [1, 2, 3][: len(labels) - 1 - ("ignore" in labels)])
    classes = list(manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    if manager.has_ignore_label:
        classes.append([-1, *manager.all_labels])
    return classes


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_classes_are_those_of_nnunet(name):
    labels = DESCRIPTIONS[name]
    expected = [tuple(c) if isinstance(c, list) else c for c in nnunets_classes(labels)]
    assert classes_to_locate(labels) == expected


@pytest.mark.parametrize("size", [(40, 50), (1100, 1200)])
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_pixels_and_their_order_are_those_of_nnunet(name, size):
    labels = np.random.default_rng(1).integers(-1, 3, size).astype(np.int16)
    classes = classes_to_locate(DESCRIPTIONS[name])
    expected = DefaultPreprocessor._sample_foreground_locations(
        labels[None, None], nnunets_classes(DESCRIPTIONS[name])
    )
    found = sample_locations(labels, classes)
    assert list(found) == list(expected)
    for key, flat in found.items():
        given = Locations(lambda flat=flat: flat, len(flat), size)
        assert len(given) == len(expected[key])
        assert np.array_equal(np.asarray(given), np.reshape(expected[key], (-1, 4)))


@pytest.fixture
def locations():
    return Locations(lambda: np.array([0, 7, 23], np.int32), 3, (5, 6))


def test_a_pixel_is_channel_slice_row_and_column(locations):
    assert locations[1].tolist() == [0, 0, 1, 1]
    assert locations[-1].tolist() == [0, 0, 3, 5]
    assert locations[:2].tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert locations[:, 3].tolist() == [0, 1, 5]


def test_how_many_there_are_is_known_without_reading():
    def read():
        raise AssertionError

    assert len(Locations(read, 3, (5, 6))) == 3


def test_another_process_gets_an_array(locations):
    copy = pickle.loads(pickle.dumps(locations))  # noqa: S301 - our own
    assert isinstance(copy, np.ndarray)
    assert np.array_equal(copy, locations[:])


def test_coordinates_become_positions_again(locations):
    assert to_flat(np.asarray(locations), (5, 6)).tolist() == [0, 7, 23]
    assert to_flat([], (5, 6)).tolist() == []


def test_a_pixel_outside_of_the_image_is_refused(locations):
    with pytest.raises(DataError, match="outside"):
        to_flat(np.asarray(locations), (3, 6))
