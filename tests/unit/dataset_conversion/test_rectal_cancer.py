"""Rectal cancer: folders of patients and phases, and the paper's images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError, NotFoundError

from .stand_ins import blob, grey, picture, save
from .volume_files import conversion_of, left_out_of

PATIENTS = (1001, 1002, 1003, 1004, 1005, 1006)


def hounsfield(seed: int) -> np.ndarray:
    """int16, wider than the window on both sides."""
    values = picture(seed)[..., 0].astype(np.int16)
    return (values - values.min()) * 10 - 1000


def windowed(seed: int) -> np.ndarray:
    """Level 75, width 250, as 8 bits."""
    return np.rint(np.clip((hounsfield(seed) + 50.0) / 250.0, 0, 1) * 255).astype(np.uint8)


def write_dicom(path: Path, values: np.ndarray) -> Path:
    """A CT slice whose stored numbers are 1024 above the Hounsfield units."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(values[None].astype(np.int16))
    image.SetMetaData("0028|1052", "-1024")
    image.SetMetaData("0028|1053", "1")
    image.SetMetaData("0008|0060", "CT")
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


@pytest.fixture
def download(tmp_path) -> Path:
    """Six patients of two slices in the form of the contest, one slice without a mask."""
    root = tmp_path / "download" / "data1"
    for n, patient in enumerate(PATIENTS):
        phase = root / str(patient) / "arterial phase"
        for k in (1, 2):
            seed = 10 * n + k
            write_dicom(phase / f"1000{k}.dcm", hounsfield(seed))
            save(phase / f"1000{k}_mask.png", grey(blob(seed)))
    (root / "1001" / "arterial phase" / "10002_mask.png").unlink()
    return root.parent


@pytest.fixture
def paper(tmp_path) -> Path:
    """Two slices of each of six patients as PNG, with the published kind of table."""
    root = tmp_path / "CRC"
    rows = ["image_id,category"]
    for n in range(6):
        for k in (1, 2):
            name = f"case{n + 1:03d}_slice{k:05d}.png"
            save(root / "images" / name, picture(10 * n + k)[..., 0])
            save(root / "masks" / name, grey(blob(10 * n + k)))
            rows.append(f"{name},{'test' if n < 2 and k == 1 else 'train'}")
    (root / "crc_all.csv").write_text("\n".join(rows))
    return root


def cases_of(made: Path) -> dict[str, dict]:
    return {case["id"]: case for case in conversion_of(made)["cases"]}


def warnings_of(made: Path) -> str:
    return "\n".join(conversion_of(made)["warnings"])


def test_slices_are_seen_through_the_window(download, folders):
    made = convert("RectalCancer", download, folders=folders)
    assert made.name == "Dataset014_RectalCancer"
    image = np.asarray(Image.open(made / "imagesTr" / "1003_arterial_10002_0000.png"))
    mask = np.asarray(Image.open(made / "labelsTr" / "1003_arterial_10002.png"))
    assert np.array_equal(image, windowed(22))
    assert image.min() == 0
    assert image.max() == 255
    assert np.array_equal(mask, blob(22))


def test_patients_are_groups(download, folders):
    cases = cases_of(convert("RectalCancer", download, folders=folders))
    assert {case["group"] for case in cases.values()} == {str(patient) for patient in PATIENTS}
    assert cases["1006_arterial_10001"]["group"] == "1006"


def test_slices_without_a_mask_are_left_out_with_a_word(download, folders):
    made = convert("RectalCancer", download, folders=folders)
    assert len(cases_of(made)) == 11
    assert "1 slice(s) have no mask file and were left out; 0 patient(s)" in warnings_of(made)


def test_slices_without_a_mask_are_recorded_whether_or_not_their_patient_has_any(download, folders):
    write_dicom(download / "data1" / "1007" / "10001.dcm", hounsfield(77))
    left_out = left_out_of(convert("RectalCancer", download, folders=folders))
    slices = ("data1/1001/arterial phase/10002.dcm", "data1/1007/10001.dcm")
    assert left_out == dict.fromkeys(slices, "a slice without a mask file")


def test_slices_without_tumour_are_kept_with_a_word(download, folders):
    mask = download / "data1" / "1002" / "arterial phase" / "10001_mask.png"
    save(mask, np.zeros_like(grey(blob(1))))
    made = convert("RectalCancer", download, folders=folders)
    assert "1 of 11 slices have an empty mask; they were kept" in warnings_of(made)


@pytest.mark.slow
def test_nnunet_accepts_the_result(download, folders):
    made = convert("RectalCancer", download, folders=folders)
    verify_dataset_integrity(str(made), num_processes=1)


def test_phases_are_kept_apart(download, folders):
    phase = download / "data1" / "1002" / "venous phase"
    write_dicom(phase / "10001.dcm", hounsfield(77))
    save(phase / "10001_mask.png", grey(blob(77)))
    made = convert("RectalCancer", download, folders=folders)
    image = np.asarray(Image.open(made / "imagesTr" / "1002_venous_10001_0000.png"))
    assert np.array_equal(image, windowed(77))
    assert "1002_arterial_10001" in cases_of(made)


@pytest.mark.parametrize("folder", ["mask", "1", "arterial phase/mask", "."])
def test_masks_are_found_in_the_places_that_are_known(download, folders, folder):
    patient = download / "data1" / "1002"
    for mask in list((patient / "arterial phase").glob("*_mask.png")):
        (patient / folder).mkdir(exist_ok=True)
        mask.rename(patient / folder / mask.name)
    if folder == ".":
        for file in list((patient / "arterial phase").iterdir()):
            file.rename(patient / file.name)
    made = convert("RectalCancer", download, folders=folders)
    phase = "" if folder == "." else "arterial_"
    mask = np.asarray(Image.open(made / "labelsTr" / f"1002_{phase}10002.png"))
    assert np.array_equal(mask, blob(12))


def test_masks_in_a_folder_of_masks_may_have_the_names_of_the_slices(download, folders):
    patient = download / "data1" / "1002"
    (patient / "mask").mkdir()
    for mask in list((patient / "arterial phase").glob("*_mask.png")):
        mask.rename(patient / "mask" / mask.name.replace("_mask", ""))
    assert len(cases_of(convert("RectalCancer", download, folders=folders))) == 11


def test_masks_may_be_dicom(download, folders):
    phase = download / "data1" / "1002" / "arterial phase"
    (phase / "10001_mask.png").unlink()
    write_dicom(phase / "10001_mask.dcm", blob(11) * np.int16(7))
    made = convert("RectalCancer", download, folders=folders)
    mask = np.asarray(Image.open(made / "labelsTr" / "1002_arterial_10001.png"))
    assert np.array_equal(mask, blob(11))


def test_a_mask_of_another_patient_is_never_taken(download, folders):
    (download / "data1" / "1002" / "arterial phase" / "10001.dcm").unlink()
    with pytest.raises(DataError, match=r"10001_mask\.png: a mask without an image"):
        convert("RectalCancer", download, folders=folders)


def test_a_slice_of_another_patient_is_never_taken(download, folders):
    for patient in ("2001", "2002"):
        write_dicom(download / "data1" / patient / "10001.dcm", hounsfield(int(patient)))
        save(download / "data1" / patient / "10001_mask.png", grey(blob(1)))
    write_dicom(download / "data1" / "2002" / "10005.dcm", hounsfield(9))
    save(download / "data1" / "2001" / "10005_mask.png", grey(blob(1)))
    with pytest.raises(DataError, match=r"2001/10005_mask\.png: a mask without an image"):
        convert("RectalCancer", download, folders=folders)


def test_a_mask_of_two_phases_is_refused(download, folders):
    patient = download / "data1" / "1002"
    write_dicom(patient / "venous phase" / "10001.dcm", hounsfield(77))
    (patient / "mask").mkdir()
    (patient / "arterial phase" / "10001_mask.png").rename(patient / "mask" / "10001_mask.png")
    with pytest.raises(DataError, match="belongs to more than one slice: "):
        convert("RectalCancer", download, folders=folders)


def test_a_damaged_slice_is_refused_by_name_and_skipped_on_request(download, folders):
    file = download / "data1" / "1004" / "arterial phase" / "10001.dcm"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"1004/arterial phase/10001\.dcm"):
        convert("RectalCancer", download, folders=folders)
    made = convert("RectalCancer", download, folders=folders, skip_broken=True)
    assert "1004_arterial_10001" not in cases_of(made)


def test_stray_files_and_a_folder_around_change_nothing(download, folders):
    (download / "data1" / "1004" / "arterial phase" / "._10001.dcm").write_bytes(b"stray")
    (download / "__MACOSX" / "1004").mkdir(parents=True)
    (download / "__MACOSX" / "1004" / "10009.dcm").write_bytes(b"stray")
    (download / "readme.txt").write_bytes(b"stray")
    assert len(cases_of(convert("RectalCancer", download.parent, folders=folders))) == 11


def test_the_published_table_gives_the_parts(paper, folders):
    made = convert("RectalCancer", paper, folders=folders)
    cases = cases_of(made)
    assert {case for case in cases if cases[case]["part"] == "test"} == {
        "case001_slice00001",
        "case002_slice00001",
    }
    assert cases["case003_slice00002"]["group"] == "case003"
    image = np.asarray(Image.open(made / "imagesTr" / "case003_slice00002_0000.png"))
    assert np.array_equal(image, picture(22)[..., 0])


def test_patients_on_both_sides_are_said(paper, folders):
    said = warnings_of(convert("RectalCancer", paper, folders=folders))
    assert "by slice: 2 of 2 patients of the test part also have slices for training" in said


def test_without_the_table_all_slices_are_for_training(paper, folders):
    (paper / "crc_all.csv").unlink()
    made = convert("RectalCancer", paper, folders=folders)
    assert conversion_of(made)["counts"] == {"train": 12, "validation": 0, "test": 0}
    assert "by slice" not in warnings_of(made)


def test_slices_that_the_table_names_and_are_missing_are_refused(paper, folders):
    (paper / "images" / "case004_slice00001.png").unlink()
    (paper / "masks" / "case004_slice00001.png").unlink()
    with pytest.raises(DataError, match=r"images/case004_slice00001\.png: the file cannot be read"):
        convert("RectalCancer", paper, folders=folders)


def test_slices_that_the_table_does_not_name_are_left_out_with_a_word(paper, folders):
    table = paper / "crc_all.csv"
    table.write_text(table.read_text().replace("case004_slice00001.png,train\n", ""))
    made = convert("RectalCancer", paper, folders=folders)
    assert "case004_slice00001" not in cases_of(made)
    assert "does not name 1 slice(s), which were left out: case004_slice00001" in warnings_of(made)
    files = (f"{folder}/case004_slice00001.png" for folder in ("images", "masks"))
    assert left_out_of(made) == dict.fromkeys(files, "not named in crc_all.csv")


def test_an_unknown_part_is_refused(paper, folders):
    table = paper / "crc_all.csv"
    table.write_text(table.read_text().replace(",test", ",holdout"))
    with pytest.raises(DataError, match="category 'holdout'"):
        convert("RectalCancer", paper, folders=folders)


def test_a_folder_without_slices_is_refused(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no slices with masks"):
        convert("RectalCancer", tmp_path / "empty", folders=folders)
