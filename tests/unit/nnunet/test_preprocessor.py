"""Images at the size that a configuration names, and predictions back at the image's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnmedseg.data.released_input import prepare_as_released
from nnmedseg.nnunet.preprocessor import MedSegPreprocessor

from ..planners.photograph_sets import make_mask, make_photograph, make_plans

SHORTER_SIDE = {"input": {"shorter_side": 96}}
SQUASHED = {"input": {"size": [96, 128], "resize": "bilinear", "intensity": "divided_by_255"}}
LABELS = {"labels": {"background": 0, "rim": 1, "core": 2}}


def run(image, mask, details, preprocessor=MedSegPreprocessor, description=LABELS, **plans):
    """Preprocess ``(H, W, C)`` and ``(H, W)``, which nnU-Net's readers give as floats."""
    manager = PlansManager(make_plans(channels=image.shape[2], details=details, **plans))
    return preprocessor(verbose=False).run_case_npy(
        np.moveaxis(image, -1, 0)[:, None],
        None if mask is None else mask[None, None].astype(np.float32),
        {"spacing": (999, 1, 1)},
        manager,
        manager.get_configuration("2d"),
        description,
    )


def exported(labels, properties, details):
    """Return labels ``(1, 1, H, W)`` through nnU-Net's export, at the image's own size."""
    manager = PlansManager(make_plans(details=details))
    shares = np.stack([labels[0] == label for label in range(3)]).astype(np.float32)
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        torch.from_numpy(10 * shares),
        manager,
        manager.get_configuration("2d"),
        manager.get_label_manager(LABELS),
        properties,
        num_threads_torch=1,
    )[0]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((200, 300), (96, 144)), ((300, 200), (144, 96)), ((60, 40), (144, 96)), ((96, 96), (96, 96))],
)
def test_each_image_reaches_the_shorter_side_by_its_own_factor(size, expected):
    data, seg, _ = run(make_photograph(size), make_mask(size), SHORTER_SIDE)
    assert data.shape == (3, 1, *expected)
    assert seg.shape == (1, 1, *expected)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_any_number_of_channels(channels):
    data, _, _ = run(make_photograph((120, 160), channels), make_mask((120, 160)), SHORTER_SIDE)
    assert data.shape == (channels, 1, 96, 128)
    assert data.dtype == np.float32


@pytest.mark.parametrize(
    "given", [{"shorter_side": 192}, {**SQUASHED["input"], "size": [224, 224]}]
)
@pytest.mark.parametrize("border", [0, 30])
@pytest.mark.parametrize("size", [(400, 500), (500, 400), (300, 700)])
def test_masks_come_back_at_the_images_own_size(size, border, given):
    mask = make_mask(size)
    _, seg, properties = run(make_photograph(size, border=border), mask, {"input": given})
    found = exported(seg, properties, {"input": given})
    assert found.shape == size
    ours, true = found > 0, mask > 0
    assert 2 * (ours & true).sum() / (ours.sum() + true.sum()) > 0.99


def test_a_black_border_is_cut_off_and_black_background_marked():
    image, mask = make_photograph((200, 260), border=20), make_mask((200, 260), labels=())
    image[100:130, 100:140] = 0
    _, seg, properties = run(image, mask, {"input": {"shorter_side": 80}})
    assert properties["bbox_used_for_cropping"] == [[0, 1], [20, 180], [20, 240]]
    assert seg.shape == (1, 1, 80, 110)
    assert (seg[0, 0, 42:53, 42:58] == -1).all()
    assert (seg == 0).mean() > 0.9


def test_intensities_are_those_of_the_image_before_it_is_resized():
    image = make_photograph((192, 288))
    small, _, _ = run(image, make_mask((192, 288)), SHORTER_SIDE)
    full, _, _ = run(image, make_mask((192, 288)), {}, DefaultPreprocessor)
    halves = full.reshape(3, 1, 96, 2, 144, 2).mean(axis=(3, 5))
    assert np.corrcoef(small.ravel(), halves.ravel())[0, 1] > 0.99
    np.testing.assert_allclose(small.mean(axis=(1, 2, 3)), 0, atol=0.01)


@pytest.mark.parametrize("factor", [100, 1 / 255])
def test_16_bits_and_floats_are_resized_like_8_bits(factor):
    image = make_photograph((200, 300))
    expected, _, _ = run(image, make_mask((200, 300)), SHORTER_SIDE)
    found, _, _ = run(image * np.float32(factor), make_mask((200, 300)), SHORTER_SIDE)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_fine_pattern_does_not_alias_when_an_image_shrinks_tenfold():
    board = np.indices((960, 960)).sum(0)[..., None] % 2 * np.full(3, 200, np.uint8) + 1
    plans = {"normalization_schemes": ["NoNormalization"] * 3}
    data, _, _ = run(board.astype(np.uint8), make_mask((960, 960)), SHORTER_SIDE, **plans)
    assert np.ptp(data[:, :, 2:-2, 2:-2]) < 2


def test_without_a_size_nothing_differs_from_nnunet():
    image, mask = make_photograph((120, 160), border=10), make_mask((120, 160))
    ours = run(image, mask, {"store": "uint8"})
    theirs = run(image, mask, {}, DefaultPreprocessor)
    assert all(np.array_equal(our, their) for our, their in zip(ours[:2], theirs[:2], strict=True))
    assert ours[2].keys() == theirs[2].keys()


def test_the_given_image_is_left_as_it_is():
    image, mask = make_photograph((120, 160), border=10), make_mask((120, 160))
    before = image.copy(), mask.copy()
    for details in (SHORTER_SIDE, SQUASHED):
        run(image, mask, details)
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])


@pytest.mark.parametrize("details", [SHORTER_SIDE, SQUASHED], ids=["shorter side", "squashed"])
def test_an_image_to_predict_has_no_mask(details):
    image = make_photograph((200, 300))
    alone, _, properties = run(image, None, details)
    trained, _, _ = run(image, make_mask((200, 300)), details)
    assert np.array_equal(alone, trained)
    assert "class_locations" not in properties


def test_squashed_images_are_the_papers_own_input():
    image = make_photograph((200, 300), border=20)
    data, seg, properties = run(image, make_mask((200, 300)), SQUASHED)
    expected, _ = prepare_as_released(
        np.moveaxis(image, -1, 0)[:, None].astype(np.float32), {}, **SQUASHED["input"]
    )
    assert np.array_equal(data, expected)
    assert seg.min() == 0
    assert properties["bbox_used_for_cropping"] == [[0, 1], [0, 200], [0, 300]]


@pytest.mark.parametrize("details", [SHORTER_SIDE, SQUASHED], ids=["shorter side", "squashed"])
def test_pixels_of_each_class_are_at_the_new_size(details):
    image, mask = make_photograph((200, 300)), make_mask((200, 300))
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    description = {"labels": labels, "regions_class_order": [1, 2]}
    _, seg, properties = run(image, mask, details, description=description)
    locations = properties["class_locations"]
    assert list(locations) == [(1, 2), (2,), (-1, 0, 1, 2)]
    for key, pixels in locations.items():
        assert np.isin(seg[tuple(pixels.T)], key).all()


def test_each_slice_of_a_volume_is_squashed_in_its_plane():
    volume = np.random.default_rng(0).normal(0, 300, (1, 5, 60, 80)).astype(np.float32)
    mask = np.stack([make_mask((60, 80), labels=(n % 3,)) for n in range(5)])[None]
    given = {"size": [28, 28], "resize": "spline", "intensity": "synapse"}
    plans = make_plans(channels=1, details={"input": given}, spacing=[0.7, 0.7])
    manager = PlansManager(
        {**plans, "transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    )
    data, seg, properties = MedSegPreprocessor(verbose=False).run_case_npy(
        volume.transpose(0, 2, 1, 3),
        mask.transpose(0, 2, 1, 3),
        {"spacing": (0.7, 3.0, 0.7)},
        manager,
        manager.get_configuration("2d"),
        LABELS,
    )
    assert data.shape == (1, 5, 28, 28)
    assert [set(np.unique(one)) for one in seg[0]] == [{0}, {0, 1}, {0, 2}, {0}, {0, 1}]
    assert properties["shape_before_cropping"] == (5, 60, 80)
