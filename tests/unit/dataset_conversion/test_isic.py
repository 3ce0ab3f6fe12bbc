"""ISIC 2016 and 2017."""

from __future__ import annotations

import json

import pytest

from nnmedseg.dataset_conversion import convert

from .stand_ins import isic2016, isic2017, picture, save


def record_of(made):
    return json.loads((made / "conversion.json").read_text("utf-8"))


def test_superpixels_and_tables_are_not_cases_and_are_recorded(tmp_path, folders):
    isic2017(tmp_path / "download")
    record = record_of(convert("ISIC2017", tmp_path / "download", folders=folders))
    assert record["counts"] == {"train": 6, "validation": 2, "test": 2}
    assert len(record["skipped"]) == 10
    assert all(entry["file"].endswith("_superpixels.png") for entry in record["skipped"])


def test_validation_is_the_fold_after_the_five(tmp_path, folders):
    isic2017(tmp_path / "download")
    made = convert("ISIC2017", tmp_path / "download", folders=folders)
    folds = json.loads((made / "splits_final.json").read_text("utf-8"))
    assert len(folds) == 6
    assert folds[5]["val"] == ["ISIC_0000030", "ISIC_0000031"]


@pytest.mark.parametrize("name", ["ISIC_0000000_Segmentation.png", "isic_0000000_SEGMENTATION.PNG"])
def test_both_spellings_of_the_masks_are_read(tmp_path, folders, name):
    isic2017(tmp_path / "download")
    masks = tmp_path / "download" / "ISIC-2017_Training_Part1_GroundTruth"
    (masks / "ISIC_0000000_segmentation.png").rename(masks / name)
    made = convert("ISIC2017", tmp_path / "download", folders=folders)
    assert record_of(made)["counts"]["train"] == 6


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_the_years_are_said_to_share_images(tmp_path, folders, year):
    {"2016": isic2016, "2017": isic2017}[year](tmp_path / "download")
    record = record_of(convert(f"ISIC{year}", tmp_path / "download", folders=folders))
    assert any("nnmedseg_check_overlap" in warning for warning in record["warnings"])


@pytest.mark.parametrize(
    "name", ["ISBI2016_ISIC_Part1_Training_Images", "isic2016 training", "ISIC-2016_Training_Data"]
)
def test_the_folder_of_images_of_2016_may_have_another_name(tmp_path, folders, name):
    root = tmp_path / "download"
    isic2016(root)
    (root / "ISBI2016_ISIC_Part1_Training_Data").rename(root / name)
    made = convert("ISIC2016", root, folders=folders)
    assert record_of(made)["counts"] == {"train": 6, "validation": 0, "test": 2}


def test_images_of_other_parts_of_2016_are_not_taken_for_those_of_part_1(tmp_path, folders):
    root = tmp_path / "download"
    expected = isic2016(root)
    for part in ("Part1B", "Part3"):
        for case in expected:
            save(root / f"ISBI2016_ISIC_{part}_Training_Data" / f"{case}.jpg", picture(90))
    record = record_of(convert("ISIC2016", root, folders=folders))
    sources = {case["images"][0]["file"].split("/")[0] for case in record["cases"]}
    assert sources == {"ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Test_Data"}
