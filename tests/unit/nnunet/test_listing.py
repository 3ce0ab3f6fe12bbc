"""The listing of training cases, against nnU-Net's."""

import json
import os

import pytest
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.nnunet.listing import LinearListing, list_training_cases

DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "organ": 1},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
NAME = "Dataset042_Listed"


class Extractor(LinearListing, DatasetFingerprintExtractor):
    pass


class Planner(LinearListing, ExperimentPlanner):
    pass


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Three cases of two channels, whose names begin with each other, and files to pass over."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    folder = tmp_path / "raw" / NAME
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for case in ("case_1", "case_10", "case", "b.c_0000"):
        for channel in ("0001", "0000"):
            (folder / "imagesTr" / f"{case}_{channel}.nii.gz").touch()
        (folder / "labelsTr" / f"{case}.nii.gz").touch()
    (folder / "imagesTr" / "notes.txt").touch()
    (folder / "imagesTr" / "folder_0000.nii.gz").mkdir()
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def stock(raw, description):
    listed = get_filenames_of_train_images_and_targets(
        str(raw), json.loads(json.dumps(description))
    )
    return list(listed.items())


def ours(raw, description):
    return list(list_training_cases(raw, description).items())


def test_a_folder_is_listed_as_by_nnunet(raw):
    assert ours(raw, DESCRIPTION) == stock(raw, DESCRIPTION)
    assert [len(case["images"]) for _, case in ours(raw, DESCRIPTION)] == [2, 2, 2, 2]


def test_links_to_files_are_listed_as_by_nnunet(raw, tmp_path):
    (tmp_path / "elsewhere.nii.gz").touch()
    (raw / "imagesTr" / "linked_0000.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    assert ours(raw, DESCRIPTION) == stock(raw, DESCRIPTION)
    assert "linked" in dict(ours(raw, DESCRIPTION))


@pytest.mark.parametrize(
    "path",
    ["../source/a.jpg", "./a.jpg", "{root}/../a.jpg", "$NNMEDSEG_SOURCE/a.jpg", "$NO_SUCH/a"],
)
def test_listed_cases_are_resolved_as_by_nnunet(raw, path, monkeypatch):
    monkeypatch.setenv("NNMEDSEG_SOURCE", str(raw.parent))
    path = path.format(root=raw)
    listed = {"z": {"images": [path, "b.png"], "label": path}, "a": {"images": [], "label": path}}
    description = {**DESCRIPTION, "dataset": listed}
    assert ours(raw, description) == stock(raw, description)


def test_the_description_is_left_as_it_was(raw):
    description = {**DESCRIPTION, "dataset": {"a": {"images": ["a.png"], "label": "b.png"}}}
    before = json.dumps(description)
    list_training_cases(raw, description)
    assert json.dumps(description) == before


def test_paths_are_absolute_where_the_folder_is_not(raw, monkeypatch):
    monkeypatch.chdir(raw.parent)
    assert ours(raw.name, DESCRIPTION) == ours(raw, DESCRIPTION)


def test_the_folder_is_read_once_and_no_file_is_looked_at(raw, monkeypatch):
    read, looked_at = [], []
    scandir, stat = os.scandir, os.stat
    monkeypatch.setattr(os, "scandir", lambda path: read.append(path) or scandir(path))
    monkeypatch.setattr(os, "stat", lambda *a, **k: looked_at.append(a) or stat(*a, **k))
    list_training_cases(raw, DESCRIPTION)
    assert read == [raw / "imagesTr"]
    assert looked_at == []


def test_an_image_without_a_channel_is_named(raw):
    (raw / "imagesTr" / "case_2.nii.gz").touch()
    with pytest.raises(DataError, match=r"case_2\.nii\.gz"):
        list_training_cases(raw, DESCRIPTION)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="imagesTr"):
        list_training_cases(tmp_path, DESCRIPTION)


@pytest.mark.parametrize("listed", [Extractor, Planner])
def test_nnunets_classes_read_the_folder_once(listed, raw, tmp_path, monkeypatch):
    fingerprint = tmp_path / "preprocessed" / NAME / "dataset_fingerprint.json"
    fingerprint.parent.mkdir(parents=True)
    fingerprint.write_text("{}")
    read, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(str(path)) or scandir(path))
    made = listed(NAME)
    assert list(made.dataset.items()) == stock(raw, DESCRIPTION)
    # nnU-Net's own listing, in the line above, reads it twice.
    assert read.count(str(raw / "imagesTr")) == 1 + 2


def test_the_other_keys_of_the_description_are_kept(raw):
    made = Extractor(NAME)
    assert {key: made.dataset_json[key] for key in DESCRIPTION} == DESCRIPTION
