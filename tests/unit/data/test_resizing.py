"""Images and masks at another size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from nnmedseg.data.resizing import METHODS, resize, resize_labels, resize_to_8_bits, working_shape

SIZES = [(13, 17), (64, 200), (31, 40), (7, 90)]


@pytest.fixture
def image():
    """Three planes of 31 x 40 pixels."""
    return np.random.default_rng(0).integers(0, 256, (3, 31, 40), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((300, 400), (30, 40)), ((400, 300), (40, 30)), ((10, 1000), (30, 3000))],
)
def test_the_shorter_side_is_reached_and_the_aspect_kept(shape, expected):
    assert working_shape(shape, 30) == expected


@pytest.mark.parametrize("size", SIZES)
def test_shrinking_averages_as_pillow_does(image, size):
    found = resize(image, size)
    for plane, resized in zip(image, found, strict=True):
        expected = Image.fromarray(plane.astype(np.float32)).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(resized, np.asarray(expected), atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["bilinear", "area"])
def test_other_methods_are_pytorchs(image, size, method):
    expected = functional.interpolate(torch.from_numpy(image)[None].float(), size, mode=method)
    np.testing.assert_allclose(resize(image, size, method), expected[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_no_value_leaves_the_range_of_the_image(method, size):
    board = np.indices((31, 40)).sum(0)[None] % 2 * 255
    found = resize(board, size, method)
    assert found.min() >= -1e-4
    assert found.max() <= 255 + 1e-4


def test_a_fine_pattern_becomes_grey_instead_of_another_pattern():
    board = np.indices((400, 400)).sum(0) % 2 * 255
    assert np.ptp(resize(board, (41, 41))[1:-1, 1:-1]) < 1


def test_16_bits_and_floats_keep_their_precision():
    values = np.linspace(0, 60000, 40).astype(np.uint16) * np.ones((31, 1), np.uint16)
    np.testing.assert_allclose(resize(values, (31, 20))[:, 5], values[0, 10:12].mean(), rtol=1e-5)
    np.testing.assert_allclose(resize(values / 60000, (31, 20)) * 60000, resize(values, (31, 20)),
                               rtol=1e-5, atol=1e-2)  # fmt: skip


def test_bytes_are_half_a_level_from_floats(image):
    exact = resize(image, (20, 30))
    assert np.abs(resize_to_8_bits(image, (20, 30)) - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("size", [(31, 40), (31, 41), (30, 40)])
def test_leading_axes_stay(image, size):
    assert resize(image[:, None], size).shape == (3, 1, *size)


def disc(size, radius, label=1):
    y, x = np.indices((size, size)) - size / 2 + 0.5
    return np.where(y**2 + x**2 < radius**2, label, 0).astype(np.int16)


@pytest.mark.parametrize("size", [50, 77, 400])
def test_a_large_region_keeps_its_share(size):
    labels = disc(200, 60)
    assert resize_labels(labels, (size, size)).mean() == pytest.approx(labels.mean(), rel=0.02)


@pytest.mark.parametrize("row", range(20, 30))
def test_a_line_thinner_than_a_new_pixel_stays_in_one_piece(row):
    labels = np.zeros((100, 100), np.int16)
    labels[row, 10:90] = 1
    found = resize_labels(labels, (10, 10))
    assert (found.sum(axis=0)[2:8] == 1).all(), "one pixel in each column that it crosses"
    assert found.sum() <= 10


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("angle", [0.1, 0.5, 0.8, 1.3, 2.2])
def test_a_slanted_line_stays_in_one_piece(width, angle):
    y, x = np.indices((200, 200)) - 100.0
    across = np.abs(np.cos(angle) * y - np.sin(angle) * x)
    labels = ((across <= width / 2) & (np.hypot(y, x) < 90)).astype(np.int16)
    for factor in (2, 4, 8):
        found = resize_labels(labels, (200 // factor, 200 // factor))
        assert ndimage.label(found, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize("row", [0, 1, 98, 99])
def test_a_thin_line_at_the_border_stays(row):
    labels = np.zeros((100, 100), np.int16)
    labels[row] = 1
    assert resize_labels(labels, (20, 20)).sum() == 20


def test_thin_lines_of_nearest_neighbours_would_be_lost():
    labels = np.zeros((100, 100), np.int16)
    labels[22, :] = 1
    assert labels[5::10, 5::10].sum() == 0
    assert resize_labels(labels, (10, 10)).sum() == 10


def test_a_line_of_one_pixel_is_not_thickened_where_it_is_kept():
    labels = np.zeros((60, 60), np.int16)
    labels[:, 30:33] = 1
    assert (resize_labels(labels, (20, 20)).sum(axis=1) == 1).all()


def test_specks_that_are_a_hundredth_of_a_pixel_are_left_out():
    labels = np.zeros((100, 100), np.int16)
    labels[51, 53] = 1
    assert resize_labels(labels, (10, 10)).sum() == 0
    assert resize_labels(labels, (50, 50)).sum() >= 1


def test_labels_are_never_mixed():
    labels = disc(90, 40, 5) + disc(90, 20, 4)
    found = resize_labels(labels, (30, 30))
    assert set(np.unique(found)) == {0, 5, 9}
    assert found.dtype == labels.dtype


def test_outside_of_the_image_stays_outside():
    labels = disc(90, 20)
    labels[:30] = -1
    found = resize_labels(labels, (30, 30))
    assert (found[:9] == -1).all()
    assert (found[11:] >= 0).all()


@pytest.mark.parametrize("value", [-1, 0, 3])
def test_a_mask_of_one_label_stays_one(value):
    assert (resize_labels(np.full((20, 30), value, np.int16), (7, 9)) == value).all()


def test_enlarged_masks_keep_straight_borders():
    labels = np.zeros((10, 10), np.int16)
    labels[:, 5:] = 2
    found = resize_labels(labels, (40, 40))
    assert (found[:, :20] == 0).all()
    assert (found[:, 20:] == 2).all()
