"""What holds for every converter of 2D images, on stand-ins in the official layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.registry import find_converter, list_converters
from nnmedseg.errors import DataError, NotFoundError

from .stand_ins import STAND_INS, Cases

# Volumes, and files of several data sets in one: they have tests of their own.
OF_ANOTHER_KIND = {"Folder", "MSD", "PolypBenchmark", "RectalCancer", "Synapse"}
NAMES = sorted(STAND_INS)
FOLDERS = {"train": "Tr", "validation": "Tr", "test": "Ts"}
STRAY_FILES = (
    "._stray.png",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "notes.txt",
    "list.csv",
    "info.json",
    "LICENSE",
)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return str(request.param)


@pytest.fixture
def release(tmp_path) -> Path:
    """An empty folder to unpack a release in."""
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


def read_json(path: Path):
    return json.loads(path.read_text("utf-8"))


def assert_made(made: Path, expected: Cases) -> None:
    """Compare files, pixels and the record with what they must be."""
    records = {record["id"]: record for record in read_json(made / "conversion.json")["cases"]}
    assert sorted(records) == sorted(expected)
    for part in ("Tr", "Ts"):
        ids = [case for case, what in expected.items() if FOLDERS[what.part] == part]
        images = sorted(path.name for path in (made / f"images{part}").glob("*"))
        masks = sorted(path.name for path in (made / f"labels{part}").glob("*"))
        assert images == sorted(f"{case}_0000.png" for case in ids)
        assert masks == sorted(f"{case}.png" for case in ids)
    for case, what in expected.items():
        part = FOLDERS[what.part]
        image = np.asarray(Image.open(made / f"images{part}" / f"{case}_0000.png"))
        label = np.asarray(Image.open(made / f"labels{part}" / f"{case}.png"))
        assert np.array_equal(image, what.image), case
        assert label.dtype == np.uint8
        assert np.array_equal(label, what.mask), case
        record = records[case]
        assert (record["part"], record["group"]) == (what.part, what.group)
        assert record.get("subset") == what.subset


def test_every_converter_is_tested():
    known = {converter.name for converter in list_converters()}
    assert known - OF_ANOTHER_KIND == set(STAND_INS)


def test_pixels_parts_and_groups_are_those_of_the_release(name, release, folders):
    expected = STAND_INS[name](release)
    made = convert(name, release, folders=folders)
    converter = find_converter(name)
    assert made.name == f"Dataset{converter.number:03d}_{converter.name}"
    assert_made(made, expected)


@pytest.mark.slow
def test_nnunet_accepts_the_result(name, release, folders):
    STAND_INS[name](release)
    made = convert(name, release, folders=folders)
    verify_dataset_integrity(str(made), num_processes=1)
    assert convert_dataset_name_to_id(made.name) == find_converter(name).number


def test_folds_hold_every_training_case_once_and_keep_groups_together(name, release, folders):
    expected = STAND_INS[name](release)
    folds = read_json(convert(name, release, folders=folders) / "splits_final.json")
    train = sorted(case for case, what in expected.items() if what.part == "train")
    held_out = [set(fold["val"]) for fold in folds[:5]]
    assert sorted(case for fold in held_out for case in fold) == train
    for case in train:
        same = {other for other in train if expected[other].group == expected[case].group}
        if expected[case].group is not None:
            assert sum(bool(same & fold) for fold in held_out) == 1


@pytest.mark.parametrize("around", ["unpacked", "unpacked/again"])
def test_folders_around_the_release_change_nothing(name, release, folders, around):
    expected = STAND_INS[name](release / around)
    assert_made(convert(name, release, folders=folders), expected)


def test_letter_case_of_folders_and_endings_changes_nothing(name, release, folders):
    expected = STAND_INS[name](release)
    deepest_first = sorted(release.rglob("*"), key=lambda path: -len(path.parts))
    for path in deepest_first:
        shouted = path.name.upper() if path.is_dir() else path.stem + path.suffix.upper()
        path.rename(path.with_name(shouted))
    assert_made(convert(name, release, folders=folders), expected)


def test_stray_files_change_nothing(name, release, folders):
    expected = STAND_INS[name](release)
    places = [release, *(path for path in release.rglob("*") if path.is_dir())]
    for place in places:
        for stray in STRAY_FILES:
            (place / stray).write_bytes(b"stray")
        (place / "__MACOSX").mkdir()
    copy = shutil.copytree(release, release.with_name("copy"))
    copy.rename(release / "__MACOSX" / "copy")
    assert_made(convert(name, release, folders=folders), expected)


@pytest.mark.parametrize("kind", [0, 1], ids=["image", "mask"])
def test_a_damaged_file_is_refused_by_name_and_skipped_on_request(name, release, folders, kind):
    expected = STAND_INS[name](release)
    case, what = next(iter(expected.items()))
    damaged = what.files[kind]
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(DataError) as raised:
        convert(name, release, folders=folders)
    assert damaged.relative_to(release).as_posix() in str(raised.value)
    assert "has 1 problem" in str(raised.value)
    made = convert(name, release, folders=folders, skip_broken=True)
    assert_made(made, {other: what for other, what in expected.items() if other != case})
    broken = [
        entry["file"]
        for entry in read_json(made / "conversion.json")["skipped"]
        if entry.get("broken")
    ]
    assert damaged.relative_to(release).as_posix() in broken


def test_a_missing_mask_is_refused_with_the_image(name, release, folders):
    expected = STAND_INS[name](release)
    what = next(iter(expected.values()))
    for mask in what.files[1:]:
        mask.unlink()
    with pytest.raises(DataError, match="an image without a mask") as raised:
        convert(name, release, folders=folders)
    assert what.files[0].name in str(raised.value)


def test_a_folder_without_the_release_is_refused_with_what_is_missing(name, release, folders):
    (release / "something else").mkdir()
    with pytest.raises(NotFoundError, match=r"missing: .+ \(there are: something else\)"):
        convert(name, release, folders=folders)
