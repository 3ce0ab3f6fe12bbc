"""Real files of the releases, compared with an independent reading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")

Files = dict[str, tuple[Path, list[Path]]]
"""Image and masks of each case."""


def isic(kind: str, suffix: str) -> Callable[[Path], Files]:
    def find(root: Path) -> Files:
        images, masks = (
            folder for folder in sorted(root.glob(f"*{kind}*")) if "Part2" not in str(folder)
        )
        return {
            path.stem: (path, [masks / f"{path.stem}{suffix}"]) for path in images.glob("*.jpg")
        }

    return find


def ph2(root: Path) -> Files:
    return {
        folder.name: (
            folder / f"{folder.name}_Dermoscopic_Image" / f"{folder.name}.bmp",
            [folder / f"{folder.name}_lesion" / f"{folder.name}_lesion.bmp"],
        )
        for folder in (root / "PH2Dataset" / "PH2 Dataset images").glob("IMD*")
    }


def in_folders(images: str, masks: str) -> Callable[[Path], Files]:
    def find(root: Path) -> Files:
        return {
            path.stem: (path, [root / masks / path.name]) for path in (root / images).glob("*.*g")
        }

    return find


def clinicdb(root: Path) -> Files:
    folder = root / "CVC-ClinicDB"
    return {
        path.stem: (path, [folder / "Ground Truth" / path.name])
        for path in (folder / "Original").glob("*.tif")
    }


def colondb(root: Path) -> Files:
    return {
        path.stem: (path, [path.with_name(f"p{path.stem}.tiff")])
        for path in (root / "CVC-ColonDB").glob("[0-9]*.tif*")
    }


def busi(root: Path) -> Files:
    files: Files = {}
    for kind in ("benign", "malignant"):
        paths = sorted((root / "Dataset_BUSI_with_GT" / kind).iterdir())
        for path in paths:
            if "_mask" not in path.name:
                case = path.stem.replace(" (", "_").replace(")", "")
                masks = [other for other in paths if other.name.startswith(f"{path.stem}_mask")]
                files[case] = (path, masks)
    return files


def glas(root: Path) -> Files:
    return {
        path.name[: -len("_anno.bmp")]: (path.with_name(path.name.replace("_anno", "")), [path])
        for path in root.glob("*/*_anno.bmp")
    }


def chase(root: Path) -> Files:
    return {
        path.stem: (path, [path.with_name(f"{path.stem}_1stHO.png")])
        for path in root.glob("Image_*.jpg")
    }


FILES: dict[str, tuple[int, Callable[[Path], Files]]] = {
    "ISIC2018": (13, isic("2018_Task1", "_segmentation.png")),
    "ISIC2017": (10, isic("2017_Training", "_segmentation.png")),
    "ISIC2016": (11, isic("2016_ISIC_Part1", "_Segmentation.png")),
    "PH2": (3, ph2),
    "Kvasir-SEG": (60, in_folders("Kvasir-SEG/images", "Kvasir-SEG/masks")),
    "BUSI": (13, busi),
    "CVC-ClinicDB": (8, clinicdb),
    "CVC-ColonDB": (3, colondb),
    "ETIS-LaribPolypDB": (3, in_folders("images", "masks")),
    "GlaS": (4, glas),
    "CHASE_DB1": (10, chase),
}
"""How many cases the samples have, and where, by the converter's name."""

NAMES = sorted(FILES)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return str(request.param)


@pytest.fixture
def release(name, tmp_path) -> Path:
    """A copy of the sample, two folders deeper than its official place.

    Of CVC-ClinicDB the sample has two forms with different frames; the original is kept.
    """
    root = tmp_path / "download" / "unpacked" / name
    ignore = shutil.ignore_patterns("PNG") if name == "CVC-ClinicDB" else None
    return Path(shutil.copytree(SAMPLES / name, root, ignore=ignore))


def read_image(path: Path) -> np.ndarray:
    if path.suffix.startswith(".tif"):
        return np.asarray(tifffile.imread(path))
    return np.asarray(Image.open(path).convert("RGB"))


def read_mask(path: Path, name: str) -> np.ndarray:
    values = (
        tifffile.imread(path) if path.suffix.startswith(".tif") else np.asarray(Image.open(path))
    )
    if values.ndim == 3:
        values = values[..., 0]
    return values > 0 if values.dtype == bool or name == "GlaS" else values >= 128


def assert_made(made: Path, files: Files, name: str) -> None:
    record = json.loads((made / "conversion.json").read_text("utf-8"))
    assert sorted(case["id"] for case in record["cases"]) == sorted(files)
    for case in record["cases"]:
        part = "Ts" if case["part"] == "test" else "Tr"
        image, masks = files[case["id"]]
        written = np.asarray(Image.open(made / f"images{part}" / f"{case['id']}_0000.png"))
        assert np.array_equal(written, read_image(image)), image
        label = np.asarray(Image.open(made / f"labels{part}" / f"{case['id']}.png"))
        expected = np.logical_or.reduce([read_mask(mask, name) for mask in masks])
        assert np.array_equal(label, expected), masks
    assert len(list(made.glob("images*/*"))) == len(files)


def test_every_pixel_is_that_of_an_independent_reading(name, release, folders):
    count, find = FILES[name]
    files = find(release)
    assert len(files) == count
    made = convert(name, release, folders=folders)
    assert_made(made, files, name)


@pytest.mark.slow
def test_nnunet_accepts_the_result(name, release, folders):
    verify_dataset_integrity(str(convert(name, release, folders=folders)), num_processes=1)


def test_deeper_folders_and_stray_files_change_nothing(name, release, folders):
    files = FILES[name][1](release)
    for folder in [path for path in release.rglob("*") if path.is_dir()]:
        for stray in ("._1.png", ".DS_Store", "Thumbs.db", "list.csv", "notes.txt", "a.json"):
            (folder / stray).write_bytes(b"stray")
    made = convert(name, release.parents[1], folders=folders)
    assert_made(made, files, name)


def test_a_damaged_file_is_named_and_the_others_are_converted_on_request(name, release, folders):
    files = FILES[name][1](release)
    case = sorted(files)[0]
    damaged = files[case][0]
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size * 2 // 3])
    with pytest.raises(DataError) as raised:
        convert(name, release, folders=folders)
    assert damaged.name in str(raised.value)
    made = convert(name, release, folders=folders, skip_broken=True)
    assert_made(made, {other: what for other, what in files.items() if other != case}, name)


def test_the_lists_of_kvasir_seg_make_the_official_fold(folders):
    made = convert("Kvasir-SEG", SAMPLES / "Kvasir-SEG", folders=folders)
    folds = json.loads((made / "splits_final.json").read_text("utf-8"))
    for part, names in zip(("train", "val"), ("train.txt", "val.txt"), strict=True):
        listed = (SAMPLES / "Kvasir-SEG" / names).read_text().split()
        assert folds[5][part] == sorted(listed)


def test_the_patients_of_glas_are_read_from_its_table(folders):
    made = convert("GlaS", SAMPLES / "GlaS", folders=folders)
    record = json.loads((made / "conversion.json").read_text("utf-8"))
    assert {case["id"]: case["group"] for case in record["cases"]} == {
        "testA_44": "patient_13",
        "testB_12": "patient_1",
        "train_12": "patient_13",
        "train_50": "patient_16",
    }


def test_of_two_forms_of_clinicdb_the_fuller_one_is_taken_and_the_other_named(folders):
    made = convert("CVC-ClinicDB", SAMPLES / "CVC-ClinicDB", folders=folders)
    record = json.loads((made / "conversion.json").read_text("utf-8"))
    assert len(record["cases"]) == 16
    assert any("CVC-ClinicDB/Original (8 cases)" in warning for warning in record["warnings"])
