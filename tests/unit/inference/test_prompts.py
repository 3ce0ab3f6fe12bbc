"""Points that a user gives, in the frame of the preprocessed image."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.inference.inputs.given_points import GivenPoint, read_points
from nnmedseg.inference.inputs.prompts import to_preprocessed


def cropped_to(*box):
    return {
        "bbox_used_for_cropping": box,
        "shape_after_cropping_and_before_resampling": [high - low for low, high in box],
    }


UNCROPPED = cropped_to((0, 1), (0, 10), (0, 20))
AXES = (0, 1, 2)


def brought(place, size, properties, axes=AXES):
    inside, places = to_preprocessed(np.array([place], float), size, properties, axes)
    return bool(inside[0]), places[0].tolist()


def test_an_image_that_keeps_its_size_keeps_its_points():
    assert brought((0, 3, 17), (1, 10, 20), UNCROPPED) == (True, [0, 3, 17])


def test_corners_stay_corners_at_another_size():
    assert brought((0, 9, 19), (1, 40, 30), UNCROPPED)[1] == [0, 38, 29]
    assert brought((0, 9, 0), (1, 5, 5), UNCROPPED)[1] == [0, 4, 0]


def test_what_is_cropped_off_is_subtracted():
    properties = cropped_to((0, 1), (2, 8), (5, 20))
    assert brought((0, 4, 9), (1, 6, 15), properties) == (True, [0, 2, 4])
    assert not brought((0, 4, 4), (1, 6, 15), properties)[0]


def test_axes_are_brought_to_the_plans_order():
    properties = cropped_to((0, 20), (0, 10), (0, 1))
    assert brought((0, 3, 17), (20, 10, 1), properties, (2, 1, 0)) == (True, [17, 3, 0])


def write(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_points_are_read(tmp_path):
    entry = {"x": 1.5, "y": 2, "label": 0, "class": 2, "z": 3}
    path = write(tmp_path, {"a": [entry], "b": [{"x": 1, "y": 2, "label": 1}]})
    assert read_points(path, 2) == {
        "a": [GivenPoint(1.5, 2, 0, class_index=1, z=3)],
        "b": [GivenPoint(1, 2, 1)],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ([1], "no list of points for each case"),
        ({"a": {"x": 1}}, "no list of points for each case"),
        ({"a": [{"x": 1, "y": 2}]}, "'a' has not x, y and label"),
        ({"a": [{"x": 1, "y": 2, "label": 1, "size": 3}]}, "has not x, y and label"),
        ({"a": [{"x": "1", "y": 2, "label": 1}]}, "x and y in pixels"),
        ({"a": [{"x": 1, "y": 2, "label": 2}]}, "label 1 or 0"),
        ({"a": [{"x": 1, "y": 2, "label": 1, "class": 2}]}, "a class from 1 to 1"),
        ({"a": [{"x": 1, "y": 2, "label": 1, "z": 0.5}]}, "a slice z"),
    ],
)
def test_a_file_that_holds_no_points_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_points(write(tmp_path, content), 1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no such file of prompts"):
        read_points(tmp_path / "prompts.json", 1)
