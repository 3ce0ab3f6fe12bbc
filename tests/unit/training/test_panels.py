"""Panels of validation images."""

import numpy as np
import pytest

from nnmedseg.evaluation.overlay import to_picture
from nnmedseg.training.panels import (
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    choose,
    cut_out,
    draw_panel,
)


def case(shape=(3, 1, 40, 60), patch=(32, 32), box=(slice(0, 1), slice(20, 30), slice(45, 55))):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = np.zeros((1, *shape[1:]), np.int16)
    labels[0][box] = 1
    return cut_out("case_1", data, labels, patch)


def holds(picture, colour):
    return (np.asarray(picture) == colour).all(-1).any()


def below_the_legend(panel):
    return np.asarray(panel)[38:]


def test_the_same_cases_are_chosen_whatever_their_order():
    names = [f"case_{number}" for number in range(9)]
    assert choose(names[::-1]) == choose(names)
    assert choose(names)[0] == "case_0"
    assert choose(names)[-1] == "case_8"
    assert len(set(choose(names))) == 4


def test_few_cases_are_all_chosen():
    assert choose(["b", "a"]) == ["a", "b"]


def test_the_part_that_is_shown_holds_the_structure():
    found = case()
    assert found.truth.shape == (32, 32)
    assert found.truth.sum() == 100


def test_a_small_image_is_filled_up_for_the_network_only():
    found = case(shape=(3, 1, 20, 24), box=(slice(0, 1), slice(4, 9), slice(4, 9)))
    assert found.image.shape == (3, 1, 32, 32)
    assert found.truth.shape == (20, 24)
    assert not found.image[..., 20:, :].any()


def test_of_a_volume_the_slice_with_most_foreground_is_shown():
    found = case(shape=(1, 9, 40, 40), box=(slice(6, 7), slice(8, 18), slice(8, 18)))
    assert found.truth.sum() == 100
    assert found.caption == "case_1, slice 7 of 9"
    assert found.image.shape == (1, 1, 32, 32)


def test_a_network_of_three_dimensions_gets_the_slices_around_it():
    box = (slice(6, 7), slice(8, 18), slice(8, 18))
    found = case(shape=(1, 9, 40, 40), patch=(4, 32, 32), box=box)
    assert found.image.shape == (1, 4, 32, 32)
    assert found.labels[0, found.plane].sum() == 100


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_than_three_channels_are_shown_in_grey(channels):
    picture = to_picture(np.random.default_rng(0).normal(size=(channels, 8, 8)).astype(np.float32))
    assert picture.shape == (8, 8, 3)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_an_even_image_can_be_shown():
    assert to_picture(np.zeros((3, 8, 8), np.float32)).max() == 0


def test_truth_and_prediction_are_outlined_in_their_colours():
    found = case()
    apart = np.zeros((32, 32), np.int64)
    apart[2:8, 2:8] = 1
    both = below_the_legend(draw_panel("Epoch 1", [found], [apart]))
    assert holds(both, TRUTH_COLOUR)
    assert holds(both, PREDICTION_COLOUR)
    without = below_the_legend(draw_panel("Epoch 1", [found], [np.zeros_like(apart)]))
    assert not holds(without, PREDICTION_COLOUR)


def test_both_outlines_are_seen_where_they_agree():
    found = case()
    same = below_the_legend(draw_panel("Epoch 1", [found], [found.truth]))
    assert holds(same, TRUTH_COLOUR)
    assert holds(same, PREDICTION_COLOUR)
