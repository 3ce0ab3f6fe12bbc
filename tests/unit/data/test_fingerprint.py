"""Intensity statistics from histograms."""

import numpy as np
import pytest

from nnmedseg.data.fingerprint import distribution_of, intensity_statistics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_statistics_of_whole_numbers_are_exact(rng):
    pixels = rng.integers(0, 256, 5001).astype(np.float32)
    found = intensity_statistics([distribution_of(pixels)])
    assert found["mean"] == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-9)
    assert found["std"] == pytest.approx(pixels.std(dtype=np.float64), rel=1e-9)
    assert found["median"] == np.median(pixels)
    assert (found["min"], found["max"]) == (pixels.min(), pixels.max())


def test_percentiles_are_within_one_grey_level(rng):
    pixels = rng.integers(-1000, 3000, 20001).astype(np.float32)
    found = intensity_statistics([distribution_of(pixels)])
    assert found["percentile_99_5"] == pytest.approx(np.percentile(pixels, 99.5), abs=1)
    assert found["percentile_00_5"] == pytest.approx(np.percentile(pixels, 0.5), abs=1)


def test_each_case_weighs_the_same_whatever_its_size():
    small, large = np.zeros(10, np.float32), np.full(1000, 10, np.float32)
    assert intensity_statistics([distribution_of(small), distribution_of(large)])["mean"] == 5


def test_continuous_intensities_are_sampled_without_bias(rng):
    pixels = rng.normal(3, 2, 300_000).astype(np.float32)
    found = intensity_statistics([distribution_of(pixels)])
    assert found["mean"] == pytest.approx(3, abs=0.05)
    assert found["std"] == pytest.approx(2, abs=0.05)


def test_cases_without_foreground_do_not_count():
    empty = distribution_of(np.empty(0, np.float32))
    assert intensity_statistics([empty, distribution_of(np.ones(3, np.float32))])["mean"] == 1


def test_no_foreground_at_all_gives_zeros():
    assert set(intensity_statistics([None]).values()) == {0.0}
