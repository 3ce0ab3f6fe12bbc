"""Points drawn from masks in nnU-Net's labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.nnunet.reference_prompts import prompts_for_case, prompts_for_target

CLASSES = LabelManager({"background": 0, "one": 1, "two": 2}, None)
IGNORING = LabelManager({"background": 0, "one": 1, "ignore": 2}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])


def draw(target, labels):
    return prompts_for_target(torch.tensor(target), labels, 4, np.random.RandomState(0))


def test_half_of_the_points_lie_in_the_class_and_half_beside_it():
    target = torch.zeros(1, 1, 8, 8, dtype=torch.int16)
    target[..., 2:4, 2:6] = 1
    maps = draw(target.numpy(), CLASSES)[0, 0]
    inside = target[0, 0] == 1
    assert maps[inside].clamp(min=0).sum() == 2
    assert maps[~inside].clamp(max=0).sum() == -2
    assert maps.abs().sum() == 4


def test_an_absent_class_gets_background_points_only():
    maps = draw(np.ones((1, 1, 4, 4), np.int16), CLASSES)[0]
    assert maps.sum(dim=(1, 2)).tolist() == [4, -4]  # and a class that fills all, only its own


def test_no_point_lies_where_nobody_knows():
    target = np.full((1, 1, 4, 4), 2, np.int16)
    target[..., 0] = 0
    maps = draw(target, IGNORING)[0, 0]
    assert maps[:, 0].sum() == -4
    assert (maps[:, 1:] == 0).all()


def test_where_all_is_ignored_points_are_background():
    assert draw(np.full((1, 1, 4, 4), 2, np.int16), IGNORING).sum() == -4


def test_regions_of_a_training_target_are_its_channels():
    target = np.zeros((1, 2, 4, 4), bool)
    target[0, 0] = True
    assert draw(target, REGIONS)[0].sum(dim=(1, 2)).tolist() == [4, -4]


@pytest.mark.parametrize(("label", "expected"), [(1, [4, -4]), (2, [4, 4]), (0, [-4, -4])])
def test_regions_of_a_case_are_its_labels(label, expected):
    maps = prompts_for_case("a", torch.full((1, 1, 4, 4), label), REGIONS, 4)
    assert maps.sum(dim=(1, 2, 3)).tolist() == expected


def test_each_slice_has_points_of_its_own():
    maps = prompts_for_case("a", torch.zeros(1, 3, 8, 8), CLASSES, 4)
    assert maps.sum(dim=(2, 3)).tolist() == [[-4, -4, -4]] * 2
    assert not torch.equal(maps[0, 0], maps[0, 1])


def test_a_case_has_the_same_points_each_time_and_another_case_others():
    slices = torch.zeros(1, 1, 16, 16)
    first, again, other = (prompts_for_case(name, slices, CLASSES, 4) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
