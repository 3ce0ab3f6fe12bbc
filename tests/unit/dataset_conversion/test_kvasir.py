"""Kvasir-SEG and Kvasir-Sessile: lists of parts, in the folder or beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError

from .stand_ins import kvasir

LISTS = ("train.txt", "val.txt")


@pytest.fixture
def release(tmp_path) -> Path:
    """Six training and two validation images by the lists, which lie in the folder."""
    kvasir("Kvasir-SEG")(tmp_path / "download")
    return tmp_path / "download" / "Kvasir-SEG"


def record_of(release: Path, folders) -> dict:
    made = convert("Kvasir-SEG", release.parent, folders=folders)
    return json.loads((made / "conversion.json").read_text("utf-8"))


@pytest.mark.parametrize("place", ["..", "Data-split", "../data-split"])
def test_lists_are_found_in_or_beside_the_folder(release, folders, place):
    (release / place).mkdir(exist_ok=True)
    for name in LISTS:
        (release / name).rename(release / place / name.upper())
    assert record_of(release, folders)["counts"] == {"train": 6, "validation": 2, "test": 0}


def test_without_lists_all_images_are_for_training_and_that_is_said(release, folders):
    for name in LISTS:
        (release / name).unlink()
    record = record_of(release, folders)
    assert record["counts"] == {"train": 8, "validation": 0, "test": 0}
    assert any("all images are for training" in warning for warning in record["warnings"])


@pytest.mark.parametrize("ends", ["\r\n", "\r", ".jpg\n", "\n\n"])
def test_lists_are_read_with_any_line_ends_and_with_endings(release, folders, ends):
    for name in LISTS:
        names = (release / name).read_text().split()
        content = ends.join(f"images/{line}" for line in names) + ends
        (release / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert record_of(release, folders)["counts"] == {"train": 6, "validation": 2, "test": 0}


def test_names_without_a_file_and_files_without_a_name_are_said(release, folders):
    train = (release / "train.txt").read_text().split()
    (release / "train.txt").write_text("\n".join([*train[1:], "absent1", "absent2"]))
    record = record_of(release, folders)
    assert record["counts"] == {"train": 6, "validation": 2, "test": 0}
    warnings = "\n".join(record["warnings"])
    assert "train.txt names 2 image(s) that are not here: absent1, absent2" in warnings
    assert f"No list names 1 image(s), which are for training: {train[0]}" in warnings


def test_lists_of_another_data_set_are_not_used(release, folders):
    for name in LISTS:
        (release / name).write_text("case0005_slice000\ncase0005_slice001\n")
    record = record_of(release, folders)
    assert record["counts"] == {"train": 8, "validation": 0, "test": 0}
    assert "val.txt is not used: it names none of the images" in record["warnings"]


def test_an_image_in_two_lists_is_refused(release, folders):
    shutil.copy(release / "val.txt", release / "train.txt")
    with pytest.raises(DataError, match="in two lists: cju6qkwl35piu, cju7qkwl35piu"):
        record_of(release, folders)


def test_a_list_of_test_images_makes_a_test_part(release, folders):
    (release / "val.txt").rename(release / "test.txt")
    assert record_of(release, folders)["counts"] == {"train": 6, "validation": 0, "test": 2}


def test_both_data_sets_may_lie_in_one_folder(release, folders):
    kvasir("sessile-main-Kvasir-SEG")(release.parent)
    for path in sorted((release.parent / "sessile-main-Kvasir-SEG").glob("*/cju0*")):
        path.unlink()
    counts = {}
    for name in ("Kvasir-SEG", "Kvasir-Sessile"):
        made = convert(name, release.parent, folders=folders)
        counts[name] = len(list((made / "imagesTr").iterdir()))
    assert counts == {"Kvasir-SEG": 8, "Kvasir-Sessile": 7}


def test_png_masks_and_images_are_read_as_well(release, folders):
    from PIL import Image

    for path in release.glob("*/*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    assert record_of(release, folders)["counts"] == {"train": 6, "validation": 2, "test": 0}
