"""Data sets that a planner made for one kind of image would fall over."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import tifffile

import nnmedseg
from nnmedseg.errors import UserError

from .own_data_sets import NUMBER, block, colours, make

TRAINERS = ["RoSPERTrainer", "nnUNetTrainer"]


def plan(data_set, **changes):
    nnmedseg.plan_and_preprocess(NUMBER, trainers=TRAINERS, folders=data_set.folders, **changes)


def loaded(data_set, name="case_00"):
    """The image ``(C, 1, H, W)`` and mask that a trainer's data loader would see."""
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    folder = str(data_set.preprocessed / data_set.configuration()["data_identifier"])
    image, mask, _, _ = infer_dataset_class(folder)(folder, [name]).load_case(name)
    return np.asarray(image[:]), np.asarray(mask[:])


def test_a_single_image_is_planned(tmp_path):
    data_set = make(tmp_path, [colours(96, 128)], [block(96, 128)])
    plan(data_set)
    assert data_set.configuration("RoSPERPlans")["batch_size"] == 2


def test_grey_images_have_one_channel(tmp_path):
    data_set = make(tmp_path, [colours(96, 96, 1, seed) for seed in range(3)], [block(96, 96)] * 3)
    plan(data_set)
    assert loaded(data_set)[0].shape == (1, 1, 96, 96)


def test_five_channels_are_preprocessed(tmp_path):
    images = [colours(64, 64, 5, seed) for seed in range(3)]
    data_set = make(tmp_path, images, [block(64, 64)] * 3, ending=".tif")
    plan(data_set)
    assert loaded(data_set)[0].shape == (5, 1, 64, 64)


@pytest.fixture
def mixed(tmp_path):
    sizes = [(64, 64), (300, 400), (1200, 900), (480, 640), (700, 1000)]
    return make(
        tmp_path,
        [colours(*size, seed=seed) for seed, size in enumerate(sizes)],
        [block(*size) for size in sizes],
    )


def test_images_of_all_sizes_come_to_one_view(mixed):
    plan(mixed)
    side = mixed.configuration()["nnmedseg"]["input"]["shorter_side"]
    found = [min(loaded(mixed, f"case_{number:02d}")[0].shape[2:]) for number in range(5)]
    assert found == [side] * 5


def test_a_mask_keeps_its_share_of_the_image(mixed):
    plan(mixed)
    for number in range(5):
        mask = loaded(mixed, f"case_{number:02d}")[1]
        assert (mask == 1).mean() == pytest.approx(0.25, abs=0.01)


def test_nnunets_own_resolution_keeps_every_size(mixed):
    plan(mixed, configurations=["2d_native"])
    native = mixed.configuration(name="2d_native")
    assert native["preprocessor_name"] == "DefaultPreprocessor"
    assert native["median_image_size_in_voxels"] == [480, 640]


def test_a_line_one_pixel_wide_keeps_the_images_as_they_are(tmp_path):
    mask = np.zeros((700, 900), np.uint8)
    mask[350, 100:800] = 1
    data_set = make(tmp_path, [colours(700, 900, seed=seed) for seed in range(3)], [mask] * 3)
    plan(data_set)
    assert data_set.configuration()["nnmedseg"]["resolution"]["reason"].count("resolution")
    assert (loaded(data_set)[1] == 1).sum() == 700


def test_masks_without_any_foreground_are_refused(tmp_path):
    empty = np.zeros((80, 80), np.uint8)
    data_set = make(tmp_path, [colours(80, 80, seed=seed) for seed in range(3)], [empty] * 3)
    with pytest.raises(UserError, match="anything but background"):
        plan(data_set)


@pytest.mark.slow
def test_images_from_64_to_6000_pixels_are_planned(tmp_path):
    sizes = [(64, 64), (480, 640), (4000, 6000)]
    data_set = make(
        tmp_path,
        [colours(*size, seed=seed) for seed, size in enumerate(sizes)],
        [block(*size) for size in sizes],
    )
    plan(data_set)
    assert loaded(data_set, "case_02")[0].shape == (3, 1, 480, 720)


def test_memory_that_no_patch_fits_is_said(tmp_path):
    data_set = make(
        tmp_path, [colours(96, 96, seed=seed) for seed in range(2)], [block(96, 96)] * 2
    )
    with pytest.raises(UserError, match="--gpu-memory"):
        plan(data_set, gpu_memory=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "scale"), [(5, 1), (1, 200)], ids=["five channels", "16 bits"]
)
def test_other_photographs_are_predicted_as_they_were_trained_on(tmp_path, channels, scale):
    images = [
        colours(32, 32, channels, seed).astype(np.uint16 if scale > 1 else np.uint8) * scale
        for seed in range(5)
    ]
    data_set = make(tmp_path / "own", images, [block(32, 32)] * 5, ending=".tif")
    plan(data_set)
    fold = nnmedseg.train(
        NUMBER, "2d", "all", trainer="RoSPERTrainer", recipe={"epochs": 1, "iterations": 1},
        device="cpu", folders=data_set.folders,
    )  # fmt: skip
    raw = data_set.folders.raw / data_set.preprocessed.name / "imagesTr"
    nnmedseg.predict(raw, tmp_path / "masks", fold.parent, device="cpu")
    for name in ("case_00", "case_04"):
        ours = SimpleITK.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz"))
        trained = tifffile.imread(fold / "validation" / f"{name}.tif")
        assert np.array_equal(SimpleITK.GetArrayFromImage(ours)[0], trained)
