"""Steps on label maps: each label's own, valid label maps, read from model folders."""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.errors import DataError
from nnmedseg.files import write_json
from nnmedseg.inference.postprocessing.rules import (
    PostProcessing,
    Step,
    Target,
    TargetSteps,
    hash_of_validation,
    targets_of,
)

LARGEST = Step("keep_largest")
HOLES = Step("fill_holes")


def labels_of(*rows):
    return np.array([[int(pixel) for pixel in row] for row in rows], np.uint8)[None]


def steps_on(label, *steps, dimensions=2, **target):
    targets = (TargetSteps(Target(**{"labels": (label,), "inside": label, **target}), steps),)
    return PostProcessing(dimensions, "px", targets)


def run(postprocessing, labels, spacing=(1, 1, 1)):
    return postprocessing(labels, spacing)


def test_only_the_label_of_the_step_is_changed():
    labels = labels_of("110020", "110002", "000100")
    expected = labels_of("110020", "110002", "000000")
    assert np.array_equal(run(steps_on(1, LARGEST), labels), expected)


def test_holes_are_filled_with_background_alone_overwritten():
    labels = labels_of("11111", "10201", "11111")
    expected = labels_of("11111", "11211", "11111")
    assert np.array_equal(run(steps_on(1, HOLES), labels), expected)


def test_what_a_label_leaves_is_not_taken_by_another():
    labels = labels_of("22222", "20102", "22222")
    removed = TargetSteps(Target((1,), 1), (Step("remove_small", 5.0),))
    filled = TargetSteps(Target((2,), 2), (HOLES,))
    result = run(PostProcessing(2, "px", (removed, filled)), labels)
    assert np.array_equal(result, labels_of("22222", "22022", "22222"))


def test_a_pixel_that_two_labels_may_add_goes_to_the_first():
    labels = labels_of("00200", "01010", "00200")
    steps = (Step("closing", 1.0),)
    both = tuple(TargetSteps(Target((label,), label), steps) for label in (1, 2))
    expected = labels_of("00200", "01110", "00200")
    assert np.array_equal(run(PostProcessing(2, "px", both), labels), expected)


def test_the_given_labels_stay_as_they_are():
    labels = labels_of("110001")
    run(steps_on(1, LARGEST), labels)
    assert np.array_equal(labels, labels_of("110001"))


def test_slices_are_images_of_their_own_in_two_dimensions():
    labels = np.concatenate([labels_of("1100"), labels_of("0111")])
    assert np.array_equal(run(steps_on(1, LARGEST), labels), labels)
    apart = np.concatenate([labels_of("1100"), labels_of("0000"), labels_of("0111")])
    assert run(steps_on(1, LARGEST, dimensions=3), apart).sum() == 3


def test_sizes_are_volumes_in_three_dimensions():
    labels = np.zeros((3, 4, 4), np.uint8)
    labels[:, 0, 0] = 1
    keep, remove = (steps_on(1, Step("remove_small", size), dimensions=3) for size in (5.9, 6.1))
    assert run(keep, labels, (2, 1, 1)).sum() == 3
    assert run(remove, labels, (2, 1, 1)).sum() == 0


def test_the_type_of_the_labels_stays():
    labels = labels_of("1001").astype(np.uint16)
    assert run(steps_on(1, LARGEST), labels).dtype == np.uint16


def test_labels_that_are_not_there_are_passed_over():
    labels = labels_of("0110")
    assert np.array_equal(run(steps_on(7, LARGEST), labels), labels)


def test_regions_fall_back_to_the_region_around_them():
    manager = LabelManager({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "e": 3}, [1, 2, 3])
    assert targets_of(manager) == [
        Target((1, 2, 3), 1, 0),
        Target((2, 3), 2, 1),
        Target((3,), 3, 2),
    ]


def test_what_is_removed_of_a_region_becomes_the_region_around_it():
    labels = labels_of("112211211")
    core = steps_on(2, LARGEST, outside=1)
    assert np.array_equal(run(core, labels), labels_of("112211111"))


def test_a_hole_of_a_region_is_filled_where_the_region_around_it_is():
    labels = labels_of("12221", "12121", "12221")
    core = steps_on(2, HOLES, outside=1)
    assert np.array_equal(run(core, labels), labels_of("12221", "12221", "12221"))


def stored(model, postprocessing, **changes):
    """Write post-processing as if it had been learnt on fold 0."""
    summary = model / "fold_0" / "validation" / "summary.json"
    cases = [{"metrics": {"1": {"Dice": 0.8}}, "prediction_file": "/there/a.png"}]
    write_json({"metric_per_case": cases}, summary)
    facts = {"0": {"validation_sha256": hash_of_validation(summary)}}
    content = {"format_version": 1, **postprocessing.describe(), "folds": facts, **changes}
    write_json(content, model / "postprocessing.json")
    return model


def test_it_is_read_as_it_was_described(tmp_path):
    written = steps_on(2, Step("opening", 1.5), HOLES, dimensions=3, outside=1)
    assert PostProcessing.from_model(stored(tmp_path, written)) == written


def test_a_model_without_it_has_none(tmp_path):
    assert PostProcessing.from_model(tmp_path) is None


def test_a_model_that_nothing_helps_has_none(tmp_path):
    assert PostProcessing.from_model(stored(tmp_path, PostProcessing(2, "px"))) is None


def test_it_is_left_out_for_weights_that_were_validated_since(tmp_path, caplog):
    model = stored(tmp_path, steps_on(1, LARGEST))
    cases = [{"metrics": {"1": {"Dice": 0.9}}, "prediction_file": "/there/a.png"}]
    write_json({"metric_per_case": cases}, model / "fold_0" / "validation" / "summary.json")
    assert PostProcessing.from_model(model) is None
    assert "another validation of fold 0" in caplog.text


def test_it_is_kept_where_the_validation_has_lost_its_paths(tmp_path):
    model = stored(tmp_path, steps_on(1, LARGEST))
    cases = [{"metrics": {"1": {"Dice": 0.8}}, "prediction_file": "a.png"}]
    write_json({"metric_per_case": cases}, model / "fold_0" / "validation" / "summary.json")
    assert PostProcessing.from_model(model) == steps_on(1, LARGEST)


def test_a_model_that_was_handed_on_without_its_validation_keeps_it(tmp_path):
    model = stored(tmp_path, steps_on(1, LARGEST))
    (model / "fold_0" / "validation" / "summary.json").unlink()
    assert PostProcessing.from_model(model) == steps_on(1, LARGEST)


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"targets": [{}]}, {"folds": None}])
def test_a_damaged_file_is_a_users_error(tmp_path, changes):
    with pytest.raises(DataError, match="cannot be read"):
        PostProcessing.from_model(stored(tmp_path, steps_on(1, LARGEST), **changes))


def test_a_step_that_is_not_known_is_a_users_error(tmp_path):
    with pytest.raises(DataError, match="no step 'sharpen'"):
        PostProcessing.from_model(stored(tmp_path, steps_on(1, Step("sharpen"))))
