"""The memory of reading and preprocessing, from headers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from nnmedseg.inference.inputs.cases import find_cases
from nnmedseg.inference.inputs.memory import estimate_memory
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.nnunet import photograph_preprocessing

from ..data.dicom_files import oblique_image, write_series
from .plain_model import plain_model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return MedSegPredictor.from_folder(plain_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A model that resamples to voxels of half the size in each slice."""
    return MedSegPredictor.from_folder(
        plain_model(
            tmp_path_factory.mktemp("model"),
            reader="SimpleITKIO",
            patch_size=(8, 16, 16),
            channels=1,
            spacing=(1.0, 0.5, 0.5),
        )
    )


def measured(case, predictor):
    """Return the most bytes that reading and preprocessing hold at once."""
    tracemalloc.start()
    predictor.preprocess(predictor.load(case))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("large", [2**20, 2**30], ids=["large", "small"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_the_estimate_of_a_picture_is_what_it_takes(tmp_path, pictures, ending, large, monkeypatch):
    monkeypatch.setattr(photograph_preprocessing, "LARGE", large)
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1300, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(pixels).save(path)
    (case,) = find_cases(path, 3, pictures=True)
    assert estimate_memory(case, pictures) == pytest.approx(measured(case, pictures), rel=0.3)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_the_estimate_of_a_volume_is_what_it_takes(tmp_path, volumes, ending):
    image = SimpleITK.GetImageFromArray(np.ones((20, 150, 160), np.int16))
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{ending}"))
    (case,) = find_cases(tmp_path, 1, pictures=False)
    assert estimate_memory(case, volumes) == pytest.approx(measured(case, volumes), rel=0.5)


def test_the_slices_of_a_series_are_counted(tmp_path, volumes):
    estimates = []
    for count in (3, 6):
        write_series(oblique_image((count, 9, 11)), tmp_path / str(count))
        (case,) = find_cases(tmp_path / str(count), 1, pictures=False)
        estimates.append(estimate_memory(case, volumes))
    assert estimates[1] == pytest.approx(2 * estimates[0], rel=0.1)


def test_a_header_is_enough(tmp_path, pictures):
    """Nothing of an image of 20,000 x 20,000 pixels is read."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, shape=(20_000, 20_000, 3), dtype=np.uint8, photometric="rgb")
    (case,) = find_cases(path, 3, pictures=True)
    tracemalloc.start()
    estimate = estimate_memory(case, pictures)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert estimate == pytest.approx(20_000**2 * 3 * (1 + 4))
    assert peak < 1e6


def test_garbage_has_no_estimate(tmp_path, pictures, volumes):
    (tmp_path / "a.png").write_bytes(b"garbage")
    (tmp_path / "b.nii.gz").write_bytes(b"garbage")
    picture, volume = find_cases(tmp_path, 3, pictures=True)
    assert estimate_memory(picture, pictures) is None
    assert estimate_memory(volume, volumes) is None
