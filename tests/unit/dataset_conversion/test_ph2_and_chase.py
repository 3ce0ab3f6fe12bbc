"""PH2 and CHASE_DB1: files that are known by their own names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError

from .stand_ins import blob, chase_db1, grey, ph2, save


def record_of(name: str, root: Path, folders) -> dict:
    made = convert(name, root, folders=folders)
    return json.loads((made / "conversion.json").read_text("utf-8"))


def test_regions_and_copies_of_masks_are_not_taken_for_lesions(tmp_path, folders):
    ph2(tmp_path / "download")
    record = record_of("PH2", tmp_path / "download", folders)
    masks = [case["masks"][0]["file"] for case in record["cases"]]
    assert all(mask.endswith("_lesion.bmp") for mask in masks)
    skipped = [entry["file"] for entry in record["skipped"]]
    assert len(skipped) == 6
    assert all(file.endswith("_lesion.jpg") for file in skipped)


def test_ph2_is_read_when_it_was_stored_again_as_png(tmp_path, folders):
    ph2(tmp_path / "download")
    for path in list((tmp_path / "download").rglob("*.jpg")):
        path.unlink()
    for path in list((tmp_path / "download").rglob("*.bmp")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    assert record_of("PH2", tmp_path / "download", folders)["counts"]["train"] == 6


def test_the_folder_of_the_cases_may_be_given(tmp_path, folders):
    ph2(tmp_path / "download")
    root = tmp_path / "download" / "PH2Dataset" / "PH2 Dataset images"
    assert record_of("PH2", root, folders)["counts"]["train"] == 6


def test_a_second_copy_further_down_is_not_read(tmp_path, folders):
    chase_db1(tmp_path / "download")
    chase_db1(tmp_path / "download" / "copy")
    record = record_of("CHASE_DB1", tmp_path / "download", folders)
    assert {Path(case["images"][0]["file"]).parent for case in record["cases"]} == {Path()}


def test_two_copies_at_one_level_are_refused(tmp_path, folders):
    chase_db1(tmp_path / "download" / "one")
    chase_db1(tmp_path / "download" / "two")
    with pytest.raises(DataError, match=r"one/Image_01L\.jpg, two/Image_01L\.jpg: 2 images"):
        convert("CHASE_DB1", tmp_path / "download", folders=folders)


def test_images_and_masks_of_chase_may_lie_in_folders_of_their_own(tmp_path, folders):
    root = tmp_path / "download"
    chase_db1(root)
    (root / "Masks" / "first").mkdir(parents=True)
    for path in list(root.glob("*_1stHO.png")):
        path.rename(root / "Masks" / "first" / path.name)
    assert record_of("CHASE_DB1", root, folders)["counts"]["train"] == 12


def test_the_second_observer_is_left_out_and_recorded(tmp_path, folders):
    chase_db1(tmp_path / "download")
    record = record_of("CHASE_DB1", tmp_path / "download", folders)
    assert len(record["skipped"]) == 12
    assert all(entry["file"].endswith("_2ndHO.png") for entry in record["skipped"])


def test_a_mask_of_the_second_observer_alone_is_no_mask(tmp_path, folders):
    chase_db1(tmp_path / "download")
    (tmp_path / "download" / "Image_01L_1stHO.png").unlink()
    save(tmp_path / "download" / "Image_01L_2ndHO.png", grey(blob(1)))
    with pytest.raises(DataError, match=r"Image_01L\.jpg: an image without a mask"):
        convert("CHASE_DB1", tmp_path / "download", folders=folders)
