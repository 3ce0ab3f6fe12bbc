"""Tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import DataError, NotFoundError, UserError

from .volume_files import (
    boxes,
    conversion_of,
    description_of,
    intensities,
    left_out_of,
    read,
    write_with_nibabel,
)

SAMPLE = Path(__file__).parents[3] / ".." / "shared" / "data" / "MSD_Hippocampus"
CASES = ("brain_001", "brain_002", "brain_010")


def channels(seed: int) -> np.ndarray:
    """(X, Y, Z, 2)."""
    return np.stack([intensities(seed).T, intensities(seed + 50).T], axis=-1)


@pytest.fixture
def task(tmp_path) -> Path:
    """Three training cases and one test case of two channels, with files of a Mac."""
    folder = tmp_path / "download" / "Task99_Brain"
    for seed, case in enumerate(CASES, start=1):
        write_with_nibabel(folder / "imagesTr" / f"{case}.nii.gz", channels(seed))
        write_with_nibabel(folder / "labelsTr" / f"{case}.nii.gz", boxes(seed, labels=2).T)
        (folder / "imagesTr" / f"._{case}.nii.gz").write_bytes(b"stray")
    write_with_nibabel(folder / "imagesTs" / "brain_003.nii.gz", channels(9))
    (folder / "._dataset.json").write_bytes(b"\0stray")
    content = {
        "name": "Brain",
        "description": "Tumours",
        "reference": "Somewhere",
        "licence": "CC-BY-SA 4.0",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "CT"},
        "labels": {"0": "Background", "1": "edema", "2": "tumour"},
        "numTraining": 3,
        "numTest": 1,
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
            for case in CASES
        ],
        "test": ["./imagesTs/brain_003.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def change(task: Path, **entries) -> None:
    file = task / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def make(source: Path, folders, **choices) -> Path:
    return convert("MSD", source, dataset_id=99, folders=folders, **choices)


def test_the_data_set_is_what_the_task_says(task, folders):
    made = make(task, folders)
    assert made.name == "Dataset099_Brain"
    description = description_of(made)
    assert description["channel_names"] == {"0": "FLAIR", "1": "CT"}
    assert description["labels"] == {"background": 0, "edema": 1, "tumour": 2}
    assert description["licence"] == "CC-BY-SA 4.0"
    assert description["reference"] == "Somewhere"


def test_the_name_can_be_chosen(task, folders):
    assert make(task, folders, options=Options(name="Mine")).name == "Dataset099_Mine"
    with pytest.raises(UserError, match="cannot be a folder's name"):
        make(task, folders, options=Options(name="a/b"))


def test_channels_are_divided_and_masks_taken_over(task, folders):
    made = make(task, folders)
    for seed, case in enumerate(CASES, start=1):
        for n in range(2):
            written = nibabel.load(made / "imagesTr" / f"{case}_{n:04d}.nii.gz")
            assert np.array_equal(np.asarray(written.dataobj), channels(seed)[..., n])
        original = task / "labelsTr" / f"{case}.nii.gz"
        assert (made / "labelsTr" / f"{case}.nii.gz").samefile(original)


def test_test_images_have_no_masks(task, folders):
    made = make(task, folders)
    assert conversion_of(made)["counts"] == {"train": 3, "validation": 0, "test": 1}
    assert (made / "imagesTs" / "brain_003_0001.nii.gz").is_file()
    assert not (made / "labelsTs").exists()


@pytest.mark.slow
def test_nnunet_accepts_the_result(task, folders):
    verify_dataset_integrity(str(make(task, folders)), num_processes=1)


@pytest.mark.parametrize("above", [1, 2])
def test_the_task_is_found_below(task, folders, above):
    assert conversion_of(make(task.parents[above - 1], folders))["counts"]["train"] == 3


def test_several_tasks_are_refused_with_their_names(task, folders):
    shutil.copytree(task, task.with_name("Task98_Copy"))
    with pytest.raises(DataError, match="several tasks: Task98_Copy, Task99_Brain"):
        make(task.parent, folders)


def test_a_listed_file_that_is_missing_is_refused_by_name(task, folders):
    (task / "labelsTr" / "brain_002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"labelsTr/brain_002\.nii\.gz: the file cannot be read"):
        make(task, folders)
    made = make(task, folders, skip_broken=True)
    ids = [case["id"] for case in conversion_of(made)["cases"]]
    assert ids == ["brain_001", "brain_003", "brain_010"]


def test_a_damaged_file_is_refused_by_name(task, folders):
    file = task / "imagesTr" / "brain_001.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"imagesTr/brain_001\.nii\.gz"):
        make(task, folders)
    assert len(conversion_of(make(task, folders, skip_broken=True))["cases"]) == 3


def test_files_that_are_not_listed_are_said(task, folders):
    change(task, training=json.loads((task / "dataset.json").read_text())["training"][:2])
    made = make(task, folders)
    warnings = "\n".join(conversion_of(made)["warnings"])
    assert "2 file(s) are not in dataset.json" in warnings
    assert "imagesTr/brain_010.nii.gz, labelsTr/brain_010.nii.gz" in warnings
    files = ("imagesTr/brain_010.nii.gz", "labelsTr/brain_010.nii.gz")
    assert left_out_of(made) == dict.fromkeys(files, "not in dataset.json")


def test_a_missing_folder_of_test_images_is_said(task, folders):
    shutil.rmtree(task / "imagesTs")
    record = conversion_of(make(task, folders))
    assert record["counts"]["test"] == 0
    assert "there is no test part" in "\n".join(record["warnings"])


def test_a_missing_folder_of_masks_is_refused(task, folders):
    shutil.rmtree(task / "labelsTr")
    with pytest.raises(NotFoundError, match="missing: labelsTr"):
        make(task, folders)


def test_values_with_gaps_become_labels_without(task, folders):
    change(task, labels={"0": "background", "2": "tumour", "1": "edema", "7": "rare"})
    made = make(task, folders)
    assert description_of(made)["labels"] == {
        "background": 0,
        "edema": 1,
        "tumour": 2,
        "rare": 3,
    }
    assert np.array_equal(read(made / "labelsTr" / "brain_001.nii.gz"), boxes(1, labels=2))


def test_values_that_are_no_label_are_refused(task, folders):
    change(task, labels={"0": "background", "1": "edema"})
    with pytest.raises(DataError, match=r"labelsTr/brain_001.nii.gz: values that are no label: 2"):
        make(task, folders)


@pytest.mark.parametrize(
    "entries",
    [
        {"training": [{"picture": "a", "label": "b"}]},
        {"training": [{"image": "../outside.nii.gz", "label": "labelsTr/a.nii.gz"}]},
        {"labels": ["background", "edema"]},
        {"modality": "CT"},
    ],
)
def test_another_form_of_description_is_refused_with_the_file(task, folders, entries):
    change(task, **entries)
    with pytest.raises(DataError) as raised:
        make(task, folders)
    assert raised.value.where == task / "dataset.json"


def test_a_folder_without_a_description_is_refused(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"there is no dataset\.json with modality"):
        make(tmp_path / "empty", folders)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real samples are not here")
def test_the_sample_is_read_as_by_nibabel(folders):
    made = make(SAMPLE, folders)
    assert made.name == "Dataset099_Hippocampus"
    assert conversion_of(made)["counts"] == {"train": 30, "validation": 0, "test": 4}
    for folder, kind, ending in (("imagesTr", "images", "_0000"), ("labelsTr", "labels", "")):
        originals = sorted((SAMPLE / "Task04_Hippocampus" / folder).glob("[!.]*.nii.gz"))
        assert len(originals) == 30
        for original in originals:
            name = original.name.replace(".nii.gz", f"{ending}.nii.gz")
            written = nibabel.load(made / f"{kind}Tr" / name)
            assert np.array_equal(read(made / f"{kind}Tr" / name), read(original))
            assert np.allclose(written.affine, nibabel.load(original).affine)
