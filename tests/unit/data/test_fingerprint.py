"""Intensity statistics from histograms."""

import tracemalloc

import numpy as np
import pytest

from nnmedseg.data.fingerprint import NAMES, Distribution, IntensityStatistics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def statistics_of(*cases):
    merged = IntensityStatistics()
    for pixels in cases:
        merged.add(Distribution.of_pixels(pixels))
    return merged.summary()


def by_numpy(pixels):
    pixels = pixels.astype(np.float64)
    return {
        "mean": pixels.mean(),
        "median": np.percentile(pixels, 50, method="inverted_cdf"),
        "std": pixels.std(),
        "min": pixels.min(),
        "max": pixels.max(),
        "percentile_99_5": np.percentile(pixels, 99.5, method="inverted_cdf"),
        "percentile_00_5": np.percentile(pixels, 0.5, method="inverted_cdf"),
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
def test_statistics_of_whole_numbers_are_exact(rng, dtype):
    pixels = rng.integers(0, 256 if dtype == np.uint8 else 30000, 5001).astype(dtype)
    assert statistics_of(pixels) == pytest.approx(by_numpy(pixels), rel=1e-9)


def test_hounsfield_units_are_exact(rng):
    pixels = rng.integers(-1024, 3072, 20001).astype(np.float32)
    assert statistics_of(pixels) == pytest.approx(by_numpy(pixels), rel=1e-9)


@pytest.mark.parametrize(("centre", "width"), [(3, 2), (0, 1e-4), (-5000.5, 40), (1e6, 1e5)])
def test_other_numbers_are_right_to_three_digits(rng, centre, width):
    pixels = rng.normal(centre, width, 300_000).astype(np.float32)
    found, expected = statistics_of(pixels), by_numpy(pixels)
    for name in ("mean", "std", "min", "max"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-9 * width)
    for name in ("median", "percentile_99_5", "percentile_00_5"):
        assert found[name] == pytest.approx(expected[name], rel=2.5e-4)


def test_whole_and_other_numbers_merge(rng):
    whole = rng.integers(-50, 50, 20_000).astype(np.float32)
    other = rng.normal(0, 20, 20_000).astype(np.float32)
    found, expected = statistics_of(whole, other), by_numpy(np.concatenate([whole, other]))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_whole_numbers_too_large_to_be_counted_are_right_to_three_digits(rng):
    pixels = rng.integers(0, 10**7, 20_000).astype(np.float32)
    assert statistics_of(pixels) == pytest.approx(by_numpy(pixels), rel=1e-3)


def test_each_case_weighs_the_same_whatever_its_size():
    small, large = np.zeros(10, np.float32), np.full(1000, 10, np.float32)
    assert statistics_of(small, large)["mean"] == 5


def test_counts_give_what_the_pixels_give(rng):
    pixels = rng.integers(5, 200, 3000).astype(np.uint8)
    of_counts = IntensityStatistics()
    of_counts.add(Distribution.of_counts(np.bincount(pixels, minlength=256)))
    assert of_counts.summary() == statistics_of(pixels)


def test_cases_without_foreground_do_not_count():
    assert statistics_of(np.empty(0, np.float32), np.ones(3, np.float32))["mean"] == 1


def test_no_foreground_at_all_gives_zeros():
    assert statistics_of(np.empty(0, np.uint8)) == dict.fromkeys(NAMES, 0.0)


def test_memory_does_not_grow_with_the_number_of_cases(rng):
    def peak(cases):
        merged = IntensityStatistics()
        tracemalloc.start()
        for _ in range(cases):
            merged.add(Distribution.of_pixels(rng.normal(size=20_000).astype(np.float32)))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(40) < 1.2 * peak(4)
