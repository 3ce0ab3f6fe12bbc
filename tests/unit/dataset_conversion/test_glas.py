"""GlaS: glands, test sets, and the patients in Grade.csv."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.dataset_conversion import convert

from .stand_ins import glas


@pytest.fixture
def release(tmp_path) -> Path:
    """Twelve training images of seven patients, and one of each test set."""
    glas(tmp_path / "download")
    return tmp_path / "download" / "Warwick QU Dataset (Released 2016_07_08)"


def record_of(release: Path, folders) -> dict:
    made = convert("GlaS", release.parent, folders=folders)
    return json.loads((made / "conversion.json").read_text("utf-8"))


def test_both_test_sets_are_one_part_and_keep_their_names(release, folders):
    record = record_of(release, folders)
    assert record["counts"] == {"train": 12, "validation": 0, "test": 2}
    subsets = {case["id"]: case["subset"] for case in record["cases"] if "subset" in case}
    assert subsets == {"testA_1": "testA", "testB_1": "testB"}


def test_every_gland_is_foreground_whatever_its_number(release, folders):
    record = record_of(release, folders)
    glands = np.asarray(Image.open(release / "train_1_anno.bmp"))
    case = next(case for case in record["cases"] if case["id"] == "train_1")
    assert set(np.unique(glands)) == {0, 1, 2, 130}
    assert case["foreground_pixels"] == np.count_nonzero(glands)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_patients_are_read_with_any_line_ends(release, folders, end):
    table = release / "Grade.csv"
    table.write_bytes(table.read_bytes().replace(b"\r", end.encode()))
    groups = {case["id"]: case["group"] for case in record_of(release, folders)["cases"]}
    assert groups["train_1"] == "patient_0"
    assert groups["train_2"] == groups["train_3"] == "patient_1"


def test_patients_in_both_official_parts_are_said(release, folders):
    warnings = record_of(release, folders)["warnings"]
    assert any("1 group(s) of cases that belong together" in text for text in warnings)


def test_without_the_table_all_is_converted_and_that_is_said(release, folders):
    (release / "Grade.csv").unlink()
    record = record_of(release, folders)
    assert record["counts"]["train"] == 12
    assert any("the patients of 14 of 14 images" in text for text in record["warnings"])


@pytest.mark.parametrize(
    ("content", "unknown"),
    [
        (b"name,patient ID, grade\rtrain_1,5, benign\rtrain_2\r\rtrain_3,, benign", 13),
        (b"\xff\xfe\x00not a table", 14),
        (b"", 14),
        (b'name,patient ID\r"' + b"a" * 200_000, 14),
    ],
)
def test_an_incomplete_table_is_used_as_far_as_it_goes(release, folders, content, unknown):
    (release / "Grade.csv").write_bytes(content)
    record = record_of(release, folders)
    assert record["counts"]["train"] == 12
    assert any(f"the patients of {unknown} of 14 images" in text for text in record["warnings"])
