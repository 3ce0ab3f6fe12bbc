"""The same model on the same settings gives the masks of nnU-Net's own prediction."""

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from PIL import Image
from scipy.ndimage import gaussian_filter

import nnmedseg

from .plain_model import plain_model

REGIONS = {"labels": {"whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
SEVERAL = {"labels": {f"organ {n}": n for n in range(1, 5)}}
UNDECIDED = 1e-3
"""Share of voxels of a resampled volume whose logits nnU-Net's float16 leaves equal."""


def nnunets_masks(images, output, model, folds, mirroring):
    predictor = nnUNetPredictor(
        device=torch.device("cpu"), use_mirroring=mirroring, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), folds)
    files = [[str(path)] for path in sorted(images.iterdir())]
    output.mkdir()
    names = [str(output / path.name.split("_0000")[0]) for path in sorted(images.iterdir())]
    predictor.predict_from_files_sequential(files, names)
    return {path.name.split(".")[0]: path for path in output.iterdir() if path.name[-4:] != "json"}


def read(path):
    if path.suffix == ".png":
        return np.array(Image.open(path))[None]
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def share_of_other_labels(images, model, tmp_path, *, folds=(0,), mirroring=True):
    expected = nnunets_masks(images, tmp_path / "theirs", model, folds, mirroring)
    nnmedseg.predict(
        images, tmp_path / "ours", model, folds=folds, mirroring=mirroring, device="cpu"
    )
    pairs = [
        (read(path), read(tmp_path / "ours" / f"{name}.nii.gz")) for name, path in expected.items()
    ]
    assert all(theirs.max() > 0 for theirs, _ in pairs)
    return sum((a != b).sum() for a, b in pairs) / sum(a.size for a, _ in pairs)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, size in enumerate([(16, 24), (40, 31), (9, 50)]):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image{number}_0000.png")
    return folder


@pytest.fixture
def volumes(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, size in enumerate([(12, 20, 22), (7, 33, 18)]):
        pixels = gaussian_filter(random.normal(size=size), 1.5).astype(np.float32)
        image = SimpleITK.GetImageFromArray(pixels)
        image.SetSpacing((1.0, 1.0, 1.5))
        SimpleITK.WriteImage(image, str(folder / f"volume{number}_0000.nii.gz"))
    return folder


@pytest.mark.parametrize("mirroring", [True, False])
def test_photographs(photographs, tmp_path, mirroring):
    model = plain_model(tmp_path)
    assert share_of_other_labels(photographs, model, tmp_path, mirroring=mirroring) == 0


def test_several_folds_and_labels(photographs, tmp_path):
    model = plain_model(tmp_path, folds=(0, 1, 2), **SEVERAL)
    assert share_of_other_labels(photographs, model, tmp_path, folds=(0, 1, 2)) == 0


def test_regions(photographs, tmp_path):
    assert share_of_other_labels(photographs, plain_model(tmp_path, **REGIONS), tmp_path) == 0


def volume_model(tmp_path, spacing, patch_size=(8, 16, 16)):
    reader = {"reader": "SimpleITKIO", "channels": 1}
    return plain_model(tmp_path, patch_size=patch_size, spacing=spacing, **reader, **SEVERAL)


def test_volumes_that_are_not_resampled(volumes, tmp_path):
    model = volume_model(tmp_path, (1.5, 1.0, 1.0))
    assert share_of_other_labels(volumes, model, tmp_path) == 0


@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.7), (2.0, 1.3, 1.3), (6.0, 1.0, 1.0)])
def test_volumes_that_are_resampled(volumes, tmp_path, spacing):
    model = volume_model(tmp_path, spacing)
    assert share_of_other_labels(volumes, model, tmp_path) < UNDECIDED


def test_slices_of_volumes(volumes, tmp_path):
    model = volume_model(tmp_path, (1.0, 1.0), patch_size=(16, 16))
    assert share_of_other_labels(volumes, model, tmp_path) == 0
