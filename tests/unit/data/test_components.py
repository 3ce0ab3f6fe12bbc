"""Regions of label maps and how wide they are."""

import numpy as np
import pytest
from scipy import ndimage

from nnmedseg.data.components import find_regions, region_spans

ALL_NEIGHBOURS = np.ones((3, 3))


def canvas(*shape):
    return np.zeros(shape or (60, 80), np.uint8)


def spans_of(label_map, label=1):
    return region_spans(label_map)[label].tolist()


def regions_by_scipy(label_map):
    """Label, area and perimeter of each region, pixel by pixel."""
    found = []
    for label in np.unique(label_map[label_map > 0]):
        numbers, count = ndimage.label(label_map == label, ALL_NEIGHBOURS)
        for number in range(1, count + 1):
            region = np.pad(numbers == number, 1).astype(int)
            edges = np.abs(np.diff(region, axis=0)).sum() + np.abs(np.diff(region, axis=1)).sum()
            found.append((int(label), int(region.sum()), int(edges)))
    return sorted(found)


def regions_by_us(label_map):
    found = find_regions(label_map)
    return sorted(
        zip(found.labels.tolist(), found.areas.tolist(), found.perimeters.tolist(), strict=True)
    )


@pytest.mark.parametrize("density", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("shape", [(40, 60), (1, 50), (50, 1), (1, 1)])
def test_regions_are_those_that_scipy_finds(density, shape):
    rng = np.random.default_rng(0)
    label_map = (rng.integers(1, 4, shape) * (rng.random(shape) < density)).astype(np.uint8)
    assert regions_by_us(label_map) == regions_by_scipy(label_map)


def test_smooth_regions_are_those_that_scipy_finds():
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(200, 300)), 4)
    label_map = (noise > 0).astype(np.uint8) + (noise > 0.05)
    assert regions_by_us(label_map) == regions_by_scipy(label_map)


@pytest.mark.parametrize("side", [1, 2, 7, 30])
def test_the_span_of_a_square_is_its_side(side):
    label_map = canvas()
    label_map[3 : 3 + side, 5 : 5 + side] = 1
    assert spans_of(label_map) == [side]


def test_a_square_at_the_border_counts_like_any_other():
    label_map = canvas(10, 10)
    label_map[...] = 1
    assert spans_of(label_map) == [10]


def test_the_span_of_a_disc_is_0_79_of_its_diameter():
    y, x = np.mgrid[-100:101, -100:101]
    disc = (y**2 + x**2 <= 90**2).astype(np.uint8)
    assert spans_of(disc) == pytest.approx([0.785 * 180], rel=0.01)


@pytest.mark.parametrize("width", [1, 3])
def test_the_span_of_a_line_is_twice_its_width(width):
    label_map = canvas(20, 2000)
    label_map[5 : 5 + width] = 1
    assert spans_of(label_map) == pytest.approx([2 * width], rel=0.01)


def test_the_span_of_a_ring_is_twice_the_width_of_its_band():
    y, x = np.mgrid[-200:201, -200:201]
    radius = np.hypot(y, x)
    ring = ((radius > 180) & (radius < 190)).astype(np.uint8)
    assert spans_of(ring) == pytest.approx([2 * 10 * 0.785], rel=0.05)


def test_pixels_that_touch_at_a_corner_are_one_region():
    assert spans_of(np.eye(9, dtype=np.uint8)) == [1]
    assert find_regions(np.eye(9, dtype=np.uint8)).areas.tolist() == [9]


def test_each_label_has_regions_of_its_own():
    label_map = canvas()
    label_map[0:10, 0:10] = 1
    label_map[0:10, 10:20] = 2
    label_map[30:36, 40:46] = 2
    assert spans_of(label_map, 1) == [10]
    assert spans_of(label_map, 2) == [6, 10]


def test_specks_beside_a_large_region_are_left_out():
    label_map = canvas()
    label_map[0:20, 0:20] = 1
    label_map[40, 40:43] = 1
    assert spans_of(label_map) == [20]


def test_many_regions_of_one_size_are_no_specks():
    label_map = canvas(100, 100)
    label_map[::4, ::4] = 1
    assert len(spans_of(label_map)) == 625


def test_an_empty_map_has_no_regions():
    assert region_spans(canvas()) == {}
