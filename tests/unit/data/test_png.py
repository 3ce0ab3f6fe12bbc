"""PNG files that we write."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from skimage import io as skimage_io

from nnmedseg.data.images import encode_png, read_image, write_png

ISIC = Path(__file__).parents[2] / "data" / "ISIC2018"
PHOTO = ISIC / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000222.jpg"


@pytest.fixture
def photo() -> np.ndarray:
    return read_image(PHOTO)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (7, 5), (5, 7, 3), (300, 200, 3)])
def test_written_png_is_read_back_exactly_by_other_readers(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    content = encode_png(image)
    assert np.array_equal(imagecodecs.png_decode(content).reshape(shape), image)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), image)


def test_png_of_a_photograph_is_exact_on_a_view(photo, tmp_path):
    view = photo[::-1, ::2]
    write_png(view, tmp_path / "image.png")
    assert np.array_equal(skimage_io.imread(tmp_path / "image.png"), view)


def test_a_png_that_cannot_be_written_leaves_nothing(photo, tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        write_png(photo.astype(np.float32), tmp_path / "image.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_png(photo, tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
