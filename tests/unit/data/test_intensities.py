"""Intensities of 8-bit images as a factor and a summand, beside what is done to floats."""

from __future__ import annotations

import numpy as np
import pytest
from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes

from nnmedseg.data.intensities import (
    INTENSITIES,
    affine_of_channels,
    affine_of_image,
    is_affine,
    measure,
)

NNUNETS = [
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
]


@pytest.fixture(params=["photograph", "one grey", "black"])
def image(request):
    """Three channels of 8 bits."""
    if request.param == "photograph":
        return np.random.default_rng(0).integers(7, 200, (3, 50, 70), dtype=np.uint8)
    return np.full((3, 50, 70), 0 if request.param == "black" else 77, np.uint8)


def applied(affine, image):
    scale, offset = (x.astype(np.float32)[:, None, None] for x in (affine.scale, affine.offset))
    return image * scale + offset


def test_statistics_are_exact(image):
    found = measure(image)
    values = image.astype(np.float64)
    np.testing.assert_allclose(found.mean, values.mean(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, values.std(axis=(1, 2)), rtol=1e-9, atol=1e-6)
    assert found.lowest.tolist() == image.min(axis=(1, 2)).tolist()
    assert found.highest.tolist() == image.max(axis=(1, 2)).tolist()


@pytest.mark.parametrize("name", NNUNETS)
def test_nnunets_normalisations(image, name):
    theirs = [
        getattr(schemes, name)(use_mask_for_norm=False, intensityproperties={}).run(
            plane.astype(np.float32)
        )
        for plane in image
    ]
    ours = applied(affine_of_channels([name] * 3, measure(image)), image)
    np.testing.assert_allclose(ours, np.stack(theirs), atol=1e-4)


def test_each_channel_has_its_own_normalisation():
    image = np.random.default_rng(0).integers(7, 200, (2, 50, 70), dtype=np.uint8)
    affine = affine_of_channels(["NoNormalization", "RGBTo01Normalization"], measure(image))
    assert affine.scale.tolist() == [1, 1 / 255]


@pytest.mark.parametrize("name", ["min_max_255", "divided_by_255", "imagenet"])
def test_the_papers_intensities(image, name):
    theirs = INTENSITIES[name](image[:, None].astype(np.float32))[:, 0]
    ours = applied(affine_of_image(name, measure(image)), image)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["CTNormalization", "synapse"])
def test_clipping_is_not_affine(name):
    assert not is_affine(["NoNormalization", name])
