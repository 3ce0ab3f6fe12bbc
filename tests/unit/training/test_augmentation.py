"""The papers' augmentations."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from nnmedseg.data.intensities import INTENSITIES
from nnmedseg.errors import UserError
from nnmedseg.training.augmentation import AUGMENTATIONS, training_transforms
from nnmedseg.training.augmentation.appearance import (
    AdditiveNoise,
    BlackSquares,
    BrightnessContrast,
    JPEGCompression,
)
from nnmedseg.training.augmentation.filters import BoxBlur, GaussianBlur, MotionBlur
from nnmedseg.training.augmentation.geometry import (
    Flip,
    PiecewiseAffine,
    RandomAffine,
    RandomResizedCrop,
)
from nnmedseg.training.augmentation.levels import Levels
from nnmedseg.training.augmentation.local_equalization import equalize

SIZE = (32, 40)
UNIT = Levels("divided_by_255")
INTENSITY = {
    "rosper": "min_max_255",
    "asc": "min_max_255",
    "heteromedseg_binary": "imagenet",
    "heteromedseg_synapse": "synapse",
    "condseg_stage1": "divided_by_255",
    "condseg": "divided_by_255",
    "promise": "imagenet",
    "none": None,
}


def _seed(seed):
    np.random.seed(seed)  # noqa: NPY002 - what the transforms draw from
    torch.manual_seed(seed)


def _sample(intensity, channels=3, size=SIZE):
    """A sample with an off-centre rectangle of label 1, and labels that are easy to tell apart."""
    generator = np.random.default_rng(0)
    grey = generator.integers(60, 200, (channels, 1, *size)).astype(np.float32)
    if intensity == "synapse":
        grey = grey[:1] / 255
    image = grey if intensity is None else INTENSITIES[intensity](grey)
    labels = torch.zeros((1, *size), dtype=torch.int16)
    labels[:, 4:14, 6:18] = 1
    return {"image": torch.from_numpy(image[:, 0].copy()), "segmentation": labels}


def _transforms(name, intensity, size=SIZE, **kwargs):
    return training_transforms(
        name, patch_size=size, original_size=size, intensity=intensity, **kwargs
    )


def _black_of(intensity):
    black = np.zeros((3, 1, 1, 2), np.float32)
    black[..., 1] = 1 if intensity == "synapse" else 255  # the whole range, as of a whole image
    return torch.from_numpy(INTENSITIES[intensity](black)[:, 0, 0, 0])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shapes_and_types_stay(name):
    _seed(0)
    for _ in range(12):
        sample = _transforms(name, INTENSITY[name])(**_sample(INTENSITY[name]))
        assert sample["image"].shape[1:] == SIZE
        assert sample["image"].dtype == torch.float32
        assert torch.isfinite(sample["image"]).all()
        assert sample["segmentation"].shape == (1, *SIZE)
        assert sample["segmentation"].dtype == torch.int16


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_label_is_invented(name):
    _seed(1)
    for _ in range(12):
        sample = _transforms(name, INTENSITY[name])(**_sample(INTENSITY[name]))
        assert set(sample["segmentation"].unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_another_process_gets_the_same_transforms(name):
    transforms = _transforms(name, INTENSITY[name])
    results = []
    for each in (transforms, pickle.loads(pickle.dumps(transforms))):  # noqa: S301 - our own
        _seed(2)
        results.append(each(**_sample(INTENSITY[name]))["image"])
    assert torch.equal(*results)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_each_sample_is_drawn_anew(name):
    _seed(3)
    transforms = _transforms(name, INTENSITY[name])
    images = [transforms(**_sample(INTENSITY[name]))["image"] for _ in range(16)]
    assert sum(not torch.equal(images[0], other) for other in images) > 4


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_a_seed_repeats_a_sample(name):
    transforms = _transforms(name, INTENSITY[name])
    results = []
    for _ in range(2):
        _seed(4)
        results.append([transforms(**_sample(INTENSITY[name]))["image"] for _ in range(6)])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_none_changes_nothing():
    sample = _transforms("none", None)(**_sample("imagenet"))
    assert torch.equal(sample["image"], _sample("imagenet")["image"])


def test_an_unknown_name_is_the_users_mistake():
    with pytest.raises(UserError, match="condsegg"):
        _transforms("condsegg", None)


def test_volumes_are_the_users_mistake():
    with pytest.raises(UserError, match="volumes"):
        _transforms("rosper", None, size=(8, 32, 32))


GEOMETRY = {
    "upside down": Flip(0),
    "left to right": Flip(1),
    "rotation": RandomAffine(UNIT, rotation=(25, 40)),
    "rotation, nearest": RandomAffine(UNIT, rotation=(200, 300), sampling="nearest"),
    "scaling": RandomAffine(UNIT, scaling=(0.6, 1.8), each_axis=True),
    "shear": RandomAffine(UNIT, shear=(10, 16)),
    "shift": RandomAffine(UNIT, shift=(0.1, 0.2)),
    "mirrored border": RandomAffine(UNIT, rotation=(-45, 45), mirrored=True),
    "triangles": PiecewiseAffine(UNIT, (0.02, 0.03)),
    "crop": RandomResizedCrop((0.7, 0.8), (0.95, 1.05)),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_image_and_mask_move_together(name):
    _seed(5)
    sample = _sample("divided_by_255", size=(64, 80))
    sample["image"] = sample["segmentation"].float().repeat(3, 1, 1)
    before = sample["segmentation"].clone()
    moved = GEOMETRY[name](**sample)
    mask = moved["segmentation"].bool()
    assert not torch.equal(moved["segmentation"], before)
    agree = (moved["image"] > 0.5) == mask
    assert agree.float().mean() > 0.98  # all but the rectangle's edge
    assert mask.any()


def test_flips_are_exact():
    sample = _sample("divided_by_255")
    for axis in (0, 1):
        flipped = Flip(axis)(**_sample("divided_by_255"))
        assert torch.equal(flipped["image"], torch.flip(sample["image"], [axis + 1]))
        assert torch.equal(flipped["segmentation"], torch.flip(sample["segmentation"], [axis + 1]))


def test_a_rotation_by_90_degrees_is_exact():
    sample = _sample("divided_by_255", size=(32, 32))
    turned = RandomAffine(UNIT, rotation=(90, 90), sampling="nearest")(**sample)
    before = _sample("divided_by_255", size=(32, 32))
    assert torch.allclose(turned["image"], torch.rot90(before["image"], -1, (1, 2)))
    assert torch.equal(turned["segmentation"], torch.rot90(before["segmentation"], -1, (1, 2)))


@pytest.mark.parametrize("intensity", ["min_max_255", "divided_by_255", "imagenet", "synapse"])
def test_outside_is_what_black_has_become(intensity):
    sample = _sample(intensity)
    sample["segmentation"][:] = 1
    moved = RandomAffine(Levels(intensity), shift=(0.5, 0.5))(**sample)
    expected = _black_of(intensity)[: len(moved["image"])]
    assert torch.allclose(moved["image"][:, 0, 0], expected, atol=1e-6)
    assert moved["segmentation"][0, 0, 0] == 0


def test_after_nnunets_normalisation_black_is_the_darkest_pixel():
    sample = _sample("imagenet")
    darkest = sample["image"].flatten(1).min(dim=1).values
    moved = RandomAffine(Levels(None), shift=(0.5, 0.5))(**sample)
    assert torch.allclose(moved["image"][:, 0, 0], darkest, atol=1e-6)


def test_a_mirrored_border_shows_no_black():
    sample = _sample("divided_by_255")
    lowest = sample["image"].min()
    moved = RandomAffine(UNIT, rotation=(45, 45), mirrored=True)(**sample)
    assert moved["image"].min() >= lowest - 1e-6


def test_squares_are_black_and_leave_the_rest():
    _seed(6)
    sample = _sample("imagenet")
    before = sample["image"].clone()
    changed = BlackSquares(Levels("imagenet"), 1, (5, 7))(**sample)["image"]
    different = (changed != before).all(dim=0)
    assert different.sum() == 5 * 7
    assert torch.allclose(changed[:, different], _black_of("imagenet")[:, None], atol=1e-6)


def test_squares_of_the_original_image_shrink_with_it():
    transforms = training_transforms(
        "condseg", patch_size=(64, 64), original_size=(128, 256), intensity="divided_by_255"
    )
    squares = transforms.transforms[-1].transform
    assert squares.sides == (16, 8)


@pytest.mark.parametrize(("form", "expected"), [("corrected", 1.275 / 255), ("released", 1.275)])
def test_synapse_noise_fits_its_images_unless_the_released_fault_is_wanted(form, expected):
    transforms = _transforms("heteromedseg_synapse", "synapse", form=form)
    noise = next(t for t in transforms.transforms[0].transforms if isinstance(t, AdditiveNoise))
    image = torch.zeros(1, 200, 200)
    deviation = noise(image=image)["image"].std() / 2  # the paper's 0 to 1 is -1 to 1 here
    assert deviation == pytest.approx(expected, rel=0.03)


def test_brightness_stays_between_black_and_white():
    black, span = Levels("imagenet").of(torch.zeros(3, 1, 1))
    image = black + span * torch.tensor([0.0, 1.0]).view(1, 1, 2)
    for _ in range(8):
        changed = BrightnessContrast(Levels("imagenet"), 0.5, 0.5)(image=image.clone())["image"]
        unit = (changed - black) / span
        assert unit.min() >= -1e-6
        assert unit.max() <= 1 + 1e-6


def test_compression_of_high_quality_changes_little():
    smooth = torch.linspace(0, 1, 40).expand(3, 32, 40).clone()
    changed = JPEGCompression(UNIT, (99, 100))(image=smooth.clone())["image"]
    assert 0 < (changed - smooth).abs().max() < 3 / 255


@pytest.mark.parametrize("blur", [BoxBlur(), GaussianBlur(), MotionBlur()])
def test_blurs_keep_the_mean_of_an_even_image(blur):
    _seed(7)
    image = torch.full((2, 16, 16), 0.7)
    assert torch.allclose(blur(image=image.clone())["image"], image, atol=1e-6)


def test_equalisation_without_a_limit_makes_an_even_histogram():
    ramp = np.tile(np.arange(64, dtype=np.uint8) + 96, (64, 1)).repeat(8, 0).repeat(8, 1)
    narrow = np.random.default_rng(0).integers(100, 140, ramp.shape).astype(np.uint8)
    assert equalize(narrow, 256).std() > 4 * narrow.std()


def test_equalisation_at_the_lowest_limit_changes_little():
    even = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    assert np.abs(equalize(even, 1).astype(int) - even).mean() < 4
