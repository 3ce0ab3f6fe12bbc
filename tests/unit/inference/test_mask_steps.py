"""What each step does to a mask, and that boxes around its regions change nothing about it."""

import numpy as np
import pytest
from scipy import ndimage

from nnmedseg.inference.postprocessing.mask_steps import (
    STEPS,
    closing,
    fill_holes,
    keep_largest,
    opening,
    remove_small,
)


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def blobs(shape, share, seed=0):
    """A mask of smooth regions of many sizes, some of them at the border."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.2)
    return noise > np.quantile(noise, 1 - share)


def kernel(radii):
    """The pixels that ITK takes for a ball."""
    axes = np.meshgrid(*(np.arange(-r, r + 1) / (r + 0.5) for r in radii), indexing="ij")
    return sum(axis**2 for axis in axes) <= 1


def test_the_largest_region_is_kept():
    mask = mask_of("##..#", "##...", ".....", "....#")
    assert np.array_equal(keep_largest(mask), mask_of("##...", "##...", ".....", "....."))


def test_regions_that_touch_at_a_corner_are_one():
    mask = mask_of("##...", "..#..", "....#")
    assert keep_largest(mask).sum() == 3


def test_regions_of_the_smallest_size_stay():
    mask = mask_of("##..#", "##...")
    assert remove_small(mask, (1, 1), 1).sum() == 5
    assert remove_small(mask, (1, 1), 2).sum() == 4


def test_sizes_are_in_the_units_of_the_spacing():
    mask = mask_of("##..#", "##...")
    assert remove_small(mask, (0.5, 0.5), 1.0).sum() == 4
    assert remove_small(mask, (0.5, 0.5), 1.1).sum() == 0


def test_a_hole_is_filled_and_a_bay_is_not():
    mask = mask_of("###.##", "#.#.#.", "###.##")
    assert np.array_equal(fill_holes(mask), mask_of("###.##", "###.#.", "###.##"))


def test_a_hole_of_one_pixel_between_four_is_filled():
    assert fill_holes(mask_of(".#.", "#.#", ".#.")).sum() == 5


@pytest.mark.parametrize("shape", [(40, 50), (12, 30, 25)], ids=["image", "volume"])
def test_holes_are_those_of_scipy(shape):
    mask = blobs(shape, 0.6 if len(shape) == 2 else 0.8)
    assert fill_holes(mask).sum() > mask.sum()
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_a_disc_that_the_corner_cuts_off_is_left_by_opening():
    y, x = np.ogrid[:20, :20]
    mask = y**2 + x**2 <= 4.5**2
    assert np.array_equal(opening(mask, (1, 1), 4), mask)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 50), (1, 1)), ((12, 30, 25), (1, 1, 1)), ((12, 30, 25), (4, 1, 1.5))],
    ids=["image", "volume", "thick slices"],
)
def test_opening_is_that_of_scipy_with_foreground_beyond_the_border(shape, spacing, size):
    radii = [round(size / distance) for distance in spacing]
    mask = blobs(shape, 0.5)
    eroded = ndimage.binary_erosion(mask, kernel(radii), border_value=1)
    expected = ndimage.binary_dilation(eroded, kernel(radii))
    assert np.array_equal(opening(mask, spacing, size), expected)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 50), (1, 1)), ((12, 30, 25), (4, 1, 1.5))],
    ids=["image", "thick slices"],
)
def test_closing_is_that_of_scipy_with_nothing_beyond_the_border(shape, spacing, size):
    radii = [round(size / distance) for distance in spacing]
    mask = blobs(shape, 0.2)
    room = [(r + 1, r + 1) for r in radii]
    closed = ndimage.binary_closing(np.pad(mask, room), kernel(radii))
    expected = closed[tuple(slice(r + 1, -r - 1) for r in radii)]
    assert np.array_equal(closing(mask, spacing, size), expected)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("value", [False, True], ids=["empty", "full"])
def test_empty_and_full_masks_stay_as_they_are(name, value):
    mask = np.full((6, 7), value)
    assert np.array_equal(STEPS[name](mask, (1, 1), 2), mask)
