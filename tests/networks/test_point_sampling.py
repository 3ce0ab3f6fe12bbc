"""Point prompts drawn from a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnmedseg.errors import DataError
from nnmedseg.networks.layers.point_sampling import points_from_mask


def circle(size=32, radius=10):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((x - 20) ** 2 + (y - 12) ** 2 < radius**2).float()


def test_labels_are_the_masks_values_at_the_points():
    mask = circle()
    points, labels = points_from_mask(mask, 16, np.random.RandomState(0))
    x, y = points.long().unbind(-1)
    assert torch.equal(mask[y, x].long(), labels)


@pytest.mark.parametrize(("number", "foreground"), [(16, 8), (5, 2), (1, 1)])
def test_half_of_the_points_are_foreground(number, foreground):
    _, labels = points_from_mask(circle(), number, np.random.RandomState(0))
    assert labels.shape == (number,)
    assert labels.sum() == foreground


@pytest.mark.parametrize("number", [1, 16])
@pytest.mark.parametrize("value", [0, 1])
def test_an_absent_class_leaves_all_points_to_the_other(number, value):
    mask = torch.full((8, 8), float(value))
    _, labels = points_from_mask(mask, number, np.random.RandomState(0))
    assert labels.tolist() == [value] * number


def test_a_mask_that_is_not_binary_gives_no_points():
    with pytest.raises(DataError, match=r"0\.5"):
        points_from_mask(torch.full((8, 8), 0.5), 4, np.random.RandomState(0))


def test_leading_axes_of_masks_are_kept():
    points, labels = points_from_mask(circle().expand(2, 3, -1, -1), 4, np.random.RandomState(0))
    assert (points.shape, labels.shape) == ((2, 3, 4, 2), (2, 3, 4))
