"""Each kind of problem, found in real broken files, and none in whole ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nnmedseg.data import integrity
from nnmedseg.data.integrity import content_hash, verify_dataset
from nnmedseg.errors import NotFoundError

from . import broken_files, broken_layouts
from .broken_data_sets import DESCRIPTION, IMAGE, LABEL, cut
from .broken_layouts import LABELS_THAT_ARE_NONE
from .raw_data_sets import (
    TRAINING,
    change_json,
    label,
    make_folders,
    natural_images,
    picture,
    save,
    volume,
    volume_label,
    volumes,
    write_description,
)

BROKEN = [*broken_layouts.BROKEN, *broken_files.BROKEN]
IDS = [f"{broken.kind}-{number}" for number, broken in enumerate(BROKEN)]
SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[Callable[[Path], Path]], Path]:
    made: dict[object, Path] = {}

    def get(make: Callable[[Path], Path]) -> Path:
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp("whole") / "Dataset001_Test")
        return made[make]

    return get


def a_copy(whole: Path, target: Path) -> Path:
    return shutil.copytree(whole, target / whole.name)


@pytest.mark.parametrize("broken", BROKEN, ids=IDS)
def test_the_problem_is_found_at_its_file(whole, tmp_path, broken):
    folder = a_copy(whole(broken.make), tmp_path)
    broken.break_it(folder)
    found = {(found.kind, found.file): found for found in verify_dataset(folder).problems}
    assert (broken.kind, broken.file) in found, list(found)
    severity = "error" if broken.kind in integrity.ERRORS else "warning"
    assert found[broken.kind, broken.file].severity == severity


def test_every_kind_of_problem_is_tried_above():
    assert {kind for kind, *_ in BROKEN} == {*integrity.ERRORS, *integrity.WARNINGS}


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_whole_natural_images_have_no_problem(tmp_path, ending):
    report = verify_dataset(natural_images(tmp_path / "Dataset001_Test", ending))
    assert report.problems == []
    assert report.cases == 7


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_whole_volumes_have_no_problem(tmp_path, ending):
    assert verify_dataset(volumes(tmp_path / "Dataset001_Test", ending)).problems == []


@pytest.mark.parametrize("key", ["channel_names", "labels", "numTraining", "file_ending"])
def test_a_missing_key_is_named(tmp_path, key):
    folder = natural_images(tmp_path / "Dataset001_Test")
    change_json(folder / DESCRIPTION, **{key: None})
    (found,) = verify_dataset(folder).errors
    assert found.kind == "bad-description"
    assert key in found.what


@pytest.mark.parametrize("labels", LABELS_THAT_ARE_NONE.values(), ids=LABELS_THAT_ARE_NONE.keys())
def test_impossible_labels_are_refused(tmp_path, labels):
    folder = natural_images(tmp_path / "Dataset001_Test")
    change_json(folder / DESCRIPTION, labels=labels)
    assert "label-definition" in {found.kind for found in verify_dataset(folder).errors}


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_truncated_images_are_found(tmp_path, ending, keep):
    folder = natural_images(tmp_path / "Dataset001_Test", ending)
    for file in (f"imagesTr/case_1_0000{ending}", f"labelsTr/case_2{ending}"):
        cut(folder / file, keep)
    found = {found.file: found for found in verify_dataset(folder).errors}
    assert set(found) == {f"imagesTr/case_1_0000{ending}", f"labelsTr/case_2{ending}"}
    assert all("truncated" in problem.what for problem in found.values())


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_truncated_volumes_are_found(tmp_path, ending, keep):
    folder = volumes(tmp_path / "Dataset001_Test", ending)
    for file in (f"imagesTr/case_1_0001{ending}", f"labelsTr/case_2{ending}"):
        cut(folder / file, keep)
    found = {found.file: found.kind for found in verify_dataset(folder).errors}
    assert found == {
        f"imagesTr/case_1_0001{ending}": "damaged",
        f"labelsTr/case_2{ending}": "damaged",
    }


def kinds(folder: Path) -> set[str]:
    return {found.kind for found in verify_dataset(folder).problems}


def test_all_problems_are_listed_in_the_order_of_files(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    cut(folder / "imagesTr" / "case_4_0000.png", 0.5)
    cut(folder / "imagesTr" / "case_0_0000.png", 0.5)
    (folder / "labelsTr" / "case_2.png").unlink()
    save((label() > 0) * np.uint8(255), folder / LABEL)
    save(np.zeros_like(picture(1)), folder / "imagesTs" / "test_0_0000.png")
    change_json(folder / DESCRIPTION, numTraining=7)
    assert [(found.file, found.kind) for found in verify_dataset(folder).problems] == [
        ("dataset.json", "case-count"),
        ("imagesTr/case_0_0000.png", "damaged"),
        ("imagesTr/case_2_0000.png", "missing-label"),
        ("imagesTr/case_4_0000.png", "damaged"),
        ("imagesTs/test_0_0000.png", "constant-image"),
        ("labelsTr/case_1.png", "black-white-mask"),
    ]


def test_several_problems_of_one_case_are_all_listed(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    save(picture(1)[..., 0], folder / IMAGE)
    save((label() * 7)[:-1], folder / LABEL)
    assert kinds(folder) == {"channel-count", "size", "label-values"}


def test_the_number_of_workers_changes_nothing(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    for case in TRAINING[1:]:
        cut(folder / "imagesTr" / f"{case}_0000.png", 0.5)
    assert verify_dataset(folder, num_workers=1) == verify_dataset(folder, num_workers=4)


def test_every_file_is_decoded_once(tmp_path, monkeypatch):
    from nnmedseg.data.integrity import _images

    decoded = []

    def counting(content, path, decode=_images.decode):
        decoded.append(path.name)
        return decode(content, path)

    monkeypatch.setattr(_images, "decode", counting)
    folder = natural_images(tmp_path / "Dataset001_Test")
    verify_dataset(folder)
    assert sorted(decoded) == sorted(path.name for path in folder.glob("*/*.png"))


def test_a_0_255_mask_is_called_so(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    save((label() > 0) * np.uint8(255), folder / LABEL)
    (found,) = verify_dataset(folder).problems
    assert "0/255 mask" in found.what
    assert "divide it by 255" in found.what


def test_a_mask_with_255_as_a_label_is_right(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    names = {str(number): number for number in range(1, 256)}
    change_json(folder / DESCRIPTION, labels={"background": 0, **names})
    save((label() > 0) * np.uint8(255), folder / LABEL)
    assert kinds(folder) == set()


def test_regions_and_the_ignore_label_are_labels(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    labels = {"background": 0, "whole": [1, 2], "tumour": 2, "ignore": 3}
    change_json(folder / DESCRIPTION, labels=labels, regions_class_order=[1, 2])
    values = label()
    values[0] = 3
    save(values, folder / LABEL)
    assert kinds(folder) == set()


def test_labels_of_one_bit_are_0_and_1(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    Image.fromarray(label() > 0).save(folder / LABEL)
    assert kinds(folder) == set()


def test_alpha_is_right_where_four_channels_are_named(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    change_json(folder / DESCRIPTION, channel_names=dict(zip("0123", "RGBA", strict=True)))
    for seed, path in enumerate(sorted(folder.glob("images*/*.png"))):
        Image.fromarray(picture(seed)).convert("RGBA").save(path)
    assert kinds(folder) == set()


def test_grey_images_in_a_file_for_each_channel(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    for path in sorted(folder.glob("images*/*.png")):
        channels = np.asarray(Image.open(path))
        for number in range(3):
            save(channels[..., number], path.with_name(path.name.replace("0000", f"000{number}")))
    assert kinds(folder) == set()


def test_files_that_dataset_json_lists_may_lie_anywhere(tmp_path, monkeypatch):
    folder = natural_images(tmp_path / "Dataset001_Test")
    (folder / "conversion.json").unlink()
    (folder / "imagesTr").rename(tmp_path / "images")
    (folder / "labelsTr").rename(folder / "masks")
    monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    listed = {
        case: {"images": [f"$IMAGES/{case}_0000.png"], "label": f"masks/{case}.png"}
        for case in TRAINING
    }
    change_json(folder / DESCRIPTION, dataset=listed)
    assert kinds(folder) == set()
    cut(tmp_path / "images" / "case_0_0000.png", 0.5)
    (found,) = verify_dataset(folder).problems
    assert found.file == str(tmp_path / "images" / "case_0_0000.png")


def stacks(folder: Path) -> Path:
    """TIFF files of slices, their spacing in files beside them."""
    make_folders(folder)
    for seed, case in enumerate(TRAINING):
        images = {f"imagesTr/{case}_0000.tif": volume(seed), f"labelsTr/{case}.tif": volume_label()}
        for name, values in images.items():
            tifffile.imwrite(folder / name, values, photometric="minisblack")
        for name in ("imagesTr", "labelsTr"):
            (folder / name / f"{case}.json").write_text('{"spacing": [2.5, 0.8, 0.7]}')
    write_description(folder, ".tif", ["CT"], len(TRAINING))
    return folder


def test_tiff_files_of_slices_are_volumes(tmp_path):
    assert kinds(stacks(tmp_path / "Dataset001_Test")) == set()


def test_the_spacing_of_tiff_files_of_slices_is_compared(tmp_path):
    folder = stacks(tmp_path / "Dataset001_Test")
    (folder / "labelsTr" / "case_1.json").write_text('{"spacing": [2.5, 0.8, 0.8]}')
    (found,) = verify_dataset(folder).problems
    assert (found.kind, found.file) == ("geometry", "labelsTr/case_1.tif")


def test_a_truncated_tiff_of_slices_is_found(tmp_path):
    folder = stacks(tmp_path / "Dataset001_Test")
    cut(folder / "imagesTr" / "case_1_0000.tif", 0.5)
    (found,) = verify_dataset(folder).problems
    assert (found.kind, found.file) == ("damaged", "imagesTr/case_1_0000.tif")


def test_what_systems_leave_in_folders_is_no_problem(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    for name in (".DS_Store", "Thumbs.db"):
        (folder / "imagesTr" / name).write_bytes(b"icons")
    assert kinds(folder) == set()


def test_a_copy_in_training_and_test_says_so(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    shutil.copy(folder / IMAGE, folder / "imagesTs" / "test_0_0000.png")
    (found,) = verify_dataset(folder).problems
    assert (found.kind, found.file) == ("duplicate", "imagesTs/test_0_0000.png")
    assert IMAGE in found.what
    assert "training" in found.what


def test_without_dataset_json_the_files_are_checked_nevertheless(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    (folder / DESCRIPTION).unlink()
    cut(folder / IMAGE, 0.5)
    assert kinds(folder) == {"no-description", "damaged"}


def test_the_report_as_json_holds_every_problem(tmp_path):
    folder = natural_images(tmp_path / "Dataset001_Test")
    cut(folder / IMAGE, 0.5)
    (folder / "imagesTr" / "notes.txt").write_text("")
    report = verify_dataset(folder)
    content = json.loads(json.dumps(report.to_dict()))
    assert content["dataset"] == "Dataset001_Test"
    assert (content["cases"], content["errors"], content["warnings"]) == (7, 1, 1)
    assert [problem["kind"] for problem in content["problems"]] == ["damaged", "superfluous"]
    assert set(content["problems"][0]) == {"severity", "kind", "file", "what"}


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="not there"):
        verify_dataset(tmp_path / "Dataset001_Test")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / LABEL).write_bytes(b"other"),
        lambda folder: os.utime(folder / LABEL, ns=(0, 0)),
        lambda folder: (folder / LABEL).unlink(),
        lambda folder: (folder / "imagesTr" / "notes.txt").write_text(""),
        lambda folder: (folder / LABEL).rename(folder / "labelsTr" / "other.png"),
    ],
    ids=["content", "time", "removed", "added", "renamed"],
)
def test_the_content_hash_notices_every_change(tmp_path, change):
    folder = natural_images(tmp_path / "Dataset001_Test")
    before = content_hash(folder)
    assert content_hash(folder) == before
    change(folder)
    assert content_hash(folder) != before


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="sample data sets are not here")
def test_real_volumes_of_the_decathlon_have_no_problem(tmp_path):
    source = SAMPLES / "MSD_Hippocampus" / "Task04_Hippocampus"
    folder = make_folders(tmp_path / "Dataset004_Hippocampus")
    names = sorted(path.name[:-7] for path in source.glob("labelsTr/[!.]*.nii.gz"))[:8]
    for name in names:
        shutil.copy(
            source / "imagesTr" / f"{name}.nii.gz", folder / "imagesTr" / f"{name}_0000.nii.gz"
        )
        shutil.copy(source / "labelsTr" / f"{name}.nii.gz", folder / "labelsTr")
    write_description(folder, ".nii.gz", ["MRI"], len(names))
    assert kinds(folder) == set()
