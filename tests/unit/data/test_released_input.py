"""Images as the papers' released code feeds them to their networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from nnmedseg.data.intensities import INTENSITIES
from nnmedseg.data.released_input import RESIZINGS, prepare_as_released

_GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def golden_arrays(name):
    spec = importlib.util.spec_from_file_location("fill", _GOLDEN / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(_GOLDEN / f"{name}.npz")[2]


@pytest.fixture
def image():
    """Three channels, two slices."""
    return np.random.default_rng(0).uniform(10, 200, (3, 2, 20, 30)).astype(np.float32)


@pytest.mark.parametrize(("given", "expected"), [("input", "output_0"), ("input_1", "output_3")])
def test_synapse_slices_are_those_of_the_authors(given, expected):
    arrays = golden_arrays("synapse_resample")
    found, _ = prepare_as_released(
        arrays[given][None, None], {}, intensity="synapse", resize="spline", size=(28, 28)
    )
    np.testing.assert_allclose(found, arrays[expected], rtol=1e-5, atol=1e-5)


def test_ct_in_hu_is_windowed_like_the_prepared_slices():
    hu = np.linspace(-1000, 1000, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    prepared = ((hu.clip(-125, 275) + 125) / 400).astype(np.float32)
    np.testing.assert_allclose(
        INTENSITIES["synapse"](hu), INTENSITIES["synapse"](prepared), atol=1e-6
    )


def test_each_slice_gets_its_own_range_over_all_channels(image):
    scaled = INTENSITIES["min_max_255"](image)
    np.testing.assert_allclose(scaled.min(axis=(0, 2, 3)), 0)
    np.testing.assert_allclose(scaled.max(axis=(0, 2, 3)), 255, rtol=1e-6)


def test_a_constant_image_is_not_divided_by_zero():
    scaled = INTENSITIES["min_max_255"](np.full((3, 1, 4, 4), 7, np.float32))
    assert np.all(scaled == 0)


def test_imagenets_mean_becomes_zero():
    mean = np.array([123.675, 116.28, 103.53], np.float32).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(INTENSITIES["imagenet"](mean), 0, atol=1e-6)


@pytest.mark.parametrize("resize", sorted(RESIZINGS))
def test_every_resizing_reaches_the_size_whatever_the_aspect_ratio(image, resize):
    found, _ = prepare_as_released(
        image, {}, intensity="divided_by_255", resize=resize, size=(16, 16)
    )
    assert tuple(found.shape) == (3, 2, 16, 16)


def test_what_leads_back_is_the_size_of_the_image(image):
    _, back = prepare_as_released(
        image, {"spacing": (9, 1, 1)}, intensity="imagenet", resize="area", size=(16, 16)
    )
    assert back["shape_after_cropping_and_before_resampling"] == (2, 20, 30)
    assert back["spacing"] == (9, 1, 1)
