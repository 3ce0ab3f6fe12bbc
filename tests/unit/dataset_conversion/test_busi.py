"""BUSI: classes, several masks an image, and images without a lesion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import NotFoundError, UserError

from .stand_ins import busi, picture, save
from .volume_files import left_out_of

NORMAL = Options(include=("normal",))


@pytest.fixture
def release(tmp_path) -> Path:
    """Four benign and three malignant images, and two without a lesion."""
    busi(tmp_path / "download")
    return tmp_path / "download" / "Dataset_BUSI_with_GT"


def record_of(made: Path) -> dict:
    return json.loads((made / "conversion.json").read_text("utf-8"))


def test_images_without_a_lesion_are_left_out_and_that_is_said(release, folders):
    record = record_of(convert("BUSI", release, folders=folders))
    assert record["counts"]["train"] == 7
    assert any("2 images without a lesion are left out" in text for text in record["warnings"])


def test_images_without_a_lesion_are_recorded_with_the_reason(release, folders):
    left_out = left_out_of(convert("BUSI", release, folders=folders))
    assert left_out == dict.fromkeys(
        [f"normal/normal ({n}){end}.png" for n in (1, 2) for end in ("", "_mask")],
        "without a lesion; --include normal converts it",
    )


def test_images_without_a_lesion_are_converted_on_request(release, folders):
    made = convert("BUSI", release, folders=folders, options=NORMAL)
    record = record_of(made)
    assert record["counts"]["train"] == 9
    assert not np.asarray(Image.open(made / "labelsTr" / "normal_1.png")).any()
    assert not any("are left out" in text for text in record["warnings"])


def test_images_without_a_lesion_that_are_not_there_are_an_error(release, folders):
    for path in (release / "normal").iterdir():
        path.unlink()
    with pytest.raises(NotFoundError, match=r"normal \(1\)\.png"):
        convert("BUSI", release, folders=folders, options=NORMAL)


def test_nothing_else_can_be_included(release, folders):
    with pytest.raises(UserError, match="nothing called 'benign'"):
        convert("BUSI", release, folders=folders, options=Options(include=("benign",)))


def test_all_masks_of_an_image_are_recorded(release, folders):
    cases = record_of(convert("BUSI", release, folders=folders))["cases"]
    masks = {case["id"]: len(case["masks"]) for case in cases}
    assert masks == {case: 3 if case == "benign_3" else 1 for case in masks}


def test_a_copy_under_another_name_is_not_a_case(release, folders):
    save(release / "benign" / "benign (1) - Copy.png", picture(77))
    made = convert("BUSI", release, folders=folders, options=NORMAL)
    assert record_of(made)["counts"]["train"] == 9
    assert left_out_of(made) == {
        "benign/benign (1) - Copy.png": "not an image or mask of a case by its name"
    }
