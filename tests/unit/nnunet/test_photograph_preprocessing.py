"""Photographs preprocessed by tables are what nnU-Net's preprocessing makes of them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnmedseg.data.released_input import prepare_as_released
from nnmedseg.nnunet.photograph_preprocessing import preprocess_photograph, why_not_by_tables
from nnmedseg.nnunet.preprocessor import MedSegPreprocessor

SCHEMES = (
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
PROPERTIES = {"spacing": (999, 1, 1)}
LABELS = {"labels": {"background": 0, "lesion": 1}}


def picture(kind="photograph"):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 97, 133), dtype=np.uint8)
    if kind == "framed":
        pixels[:, :, :7] = 0
        pixels[..., -5:] = 0
    elif kind == "black":
        pixels[:] = 0
    elif kind == "constant":
        pixels[:] = 127
    return pixels


def plans(scheme="ZScoreNormalization", **nnmedseg):
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "preprocessor_name": "MedSegPreprocessor",
        "spacing": [1.0, 1.0],
        "normalization_schemes": [scheme] * 3,
        "use_mask_for_norm": [False] * 3,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "is_seg": False},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "nnmedseg": nnmedseg,
    }
    return {
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(3)},
        "configurations": {"2d": configuration},
    }


def by_nnunet(image, content):
    manager = PlansManager(content)
    configuration = manager.get_configuration("2d")
    preprocessor = MedSegPreprocessor(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        image, None, dict(PROPERTIES), manager, configuration, LABELS
    )
    return data, properties


def by_tables(image, content):
    configuration = content["configurations"]["2d"]
    assert why_not_by_tables(content, configuration) is None
    return preprocess_photograph(image, PROPERTIES, configuration)


@pytest.mark.parametrize("kind", ["photograph", "framed", "black", "constant"])
@pytest.mark.parametrize("side", [None, 48, 200])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_result_is_nnunets(scheme, side, kind):
    image = picture(kind)
    content = plans(scheme, **({"input": {"shorter_side": side}} if side else {}))
    (data, properties), (expected, stock) = by_tables(image, content), by_nnunet(image, content)
    assert data.dtype == np.float32
    np.testing.assert_allclose(data, expected, rtol=1e-6, atol=1e-6)
    assert properties["bbox_used_for_cropping"] == stock["bbox_used_for_cropping"]
    for key in ("shape_before_cropping", "shape_after_cropping_and_before_resampling", "spacing"):
        assert tuple(properties[key]) == tuple(stock[key])


def test_repeated_grey_needs_no_memory_of_its_own():
    image = np.broadcast_to(picture()[:1], picture().shape)
    assert not image.flags.writeable
    np.testing.assert_allclose(
        by_tables(image, plans())[0], by_nnunet(image, plans())[0], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("intensity", ["min_max_255", "divided_by_255", "imagenet"])
@pytest.mark.parametrize("method", ["bilinear", "area"])
@pytest.mark.parametrize("key", ["input", "released_input"])
def test_inputs_of_papers_are_theirs(intensity, method, key):
    given = {"intensity": intensity, "resize": method, "size": [64, 48]}
    image = picture("framed")
    data, properties = by_tables(image, plans(**{key: given}))
    expected, back = prepare_as_released(image.astype(np.float32), PROPERTIES, **given)
    np.testing.assert_allclose(data, expected, rtol=1e-5, atol=1e-5)
    assert properties == back


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"preprocessor_name": "Another"}, "the preprocessor Another"),
        ({"use_mask_for_norm": [True]}, "within a mask"),
        ({"normalization_schemes": ["CTNormalization"]}, "CTNormalization"),
        ({"spacing": [2.0, 2.0]}, "spacing"),
    ],
)
def test_what_is_more_than_a_table_is_left_to_nnunet(change, reason):
    configuration = {**plans()["configurations"]["2d"], **change}
    assert reason in str(why_not_by_tables(plans(), configuration))


def test_turned_axes_are_left_to_nnunet():
    content = {**plans(), "transpose_forward": [0, 2, 1]}
    assert "order of axes" in str(why_not_by_tables(content, content["configurations"]["2d"]))


def test_no_floats_are_made_but_those_of_the_network():
    image = np.random.default_rng(0).integers(1, 256, (3, 1, 1500, 1500), dtype=np.uint8)
    floats = 4 * image.size
    tracemalloc.start()
    by_tables(image, plans())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.15 * floats
