"""The five polyp sets in PraNet's division, as folders and as ProMISe's tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError, NotFoundError

from .stand_ins import blob, grey, picture, save
from .volume_files import conversion_of, left_out_of

TEST_SETS = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")
ELSEWHERE = "/home/someone/polyp/"


def write_set(folder: Path, first_seed: int, count: int, singular: bool = False) -> None:
    kinds = ("image", "mask") if singular else ("images", "masks")
    for n in range(1, count + 1):
        mask = grey(blob(first_seed + n))
        mask[0, :3] = (3, 120, 200)
        save(folder / kinds[0] / f"{n}.png", picture(first_seed + n))
        save(folder / kinds[1] / f"{n}.png", mask)


@pytest.fixture
def download(tmp_path) -> Path:
    """Six training images and one or two of each test set, with the same numbers in all."""
    root = tmp_path / "download"
    write_set(root / "TrainDataset", 0, 6)
    for k, name in enumerate(TEST_SETS):
        write_set(root / "TestDataset" / name, 100 + 10 * k, 1 + k % 2)
    return root


@pytest.fixture
def tables(download) -> Path:
    """The same images under folders of other names, with two tables of full paths."""
    rows = [_row("TrainDataset", n, "train") for n in range(1, 7)]
    for k, name in enumerate(TEST_SETS):
        rows += [_row(f"TestDataset/{name}", n, "val") for n in range(1, 2 + k % 2)]
    _write_table(download / "combined.csv", rows)
    _write_table(download / "CVC-300.csv", [*rows[:6], _row("TestDataset/CVC-300", 1, "val")])
    (download / "TrainDataset").rename(download / "moved")
    (download / "resized").mkdir()
    (download / "moved").rename(download / "resized" / "TrainDataset")
    shutil.move(download / "TestDataset", download / "resized" / "TestDataset")
    return download


def _row(folder: str, n: int, part: str) -> str:
    return f"{ELSEWHERE}{folder}/images/{n}.png,{part},{ELSEWHERE}{folder}/masks/{n}.png"


def _write_table(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(["image_name,train_type,mask_name", *rows]))


def subsets_of(made: Path) -> dict[str, str | None]:
    return {case["id"]: case.get("subset") for case in conversion_of(made)["cases"]}


EXPECTED = {f"Train_{n}": None for n in range(1, 7)} | {
    f"{name}_{n}": name for k, name in enumerate(TEST_SETS) for n in range(1, 2 + k % 2)
}


def test_each_test_set_is_a_subset_of_the_test_part(download, folders):
    made = convert("PolypBenchmark", download, folders=folders)
    assert made.name == "Dataset015_PolypBenchmark"
    assert subsets_of(made) == EXPECTED
    assert conversion_of(made)["counts"] == {"train": 6, "validation": 0, "test": 7}


def test_pixels_are_those_of_the_files(download, folders):
    made = convert("PolypBenchmark", download, folders=folders)
    for case, part, seed in (("Train_3", "Tr", 3), ("Kvasir_1", "Ts", 141)):
        image = np.asarray(Image.open(made / f"images{part}" / f"{case}_0000.png"))
        mask = np.asarray(Image.open(made / f"labels{part}" / f"{case}.png"))
        expected = blob(seed)
        expected[0, :3] = (False, False, True)
        assert np.array_equal(image, picture(seed))
        assert np.array_equal(mask, expected)


@pytest.mark.slow
def test_nnunet_accepts_the_result(download, folders):
    made = convert("PolypBenchmark", download, folders=folders)
    verify_dataset_integrity(str(made), num_processes=1)


def test_the_older_names_of_the_folders_are_read(tmp_path, folders):
    write_set(tmp_path / "old" / "x" / "TrainDataset", 0, 6, singular=True)
    write_set(tmp_path / "old" / "x" / "TestDataset" / "Kvasir", 100, 1)
    made = convert("PolypBenchmark", tmp_path / "old", folders=folders)
    assert conversion_of(made)["counts"] == {"train": 6, "validation": 0, "test": 1}


def test_other_folders_of_the_test_part_are_left_out_with_a_word(download, folders):
    write_set(download / "TestDataset" / "test", 300, 2)
    (download / "TestDataset" / "Kvasir" / "images" / "Thumbs.db").write_bytes(b"stray")
    made = convert("PolypBenchmark", download, folders=folders)
    assert subsets_of(made) == EXPECTED
    assert any(note.startswith("test was left out") for note in conversion_of(made)["warnings"])
    assert left_out_of(made) == {
        f"TestDataset/test/{kind}/{n}.png": "in none of the five test sets"
        for kind in ("images", "masks")
        for n in (1, 2)
    }


def test_the_choice_on_the_test_sets_and_other_counts_are_said(download, folders):
    said = "\n".join(
        conversion_of(convert("PolypBenchmark", download, folders=folders))["warnings"]
    )
    assert "ProMISe chooses its checkpoint on the union of the test sets" in said
    assert "TrainDataset 6 of 1450, CVC-300 1 of 60" in said


def test_a_damaged_file_is_refused_by_name_and_skipped_on_request(download, folders):
    file = download / "TestDataset" / "Kvasir" / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"TestDataset/Kvasir/images/1\.png"):
        convert("PolypBenchmark", download, folders=folders)
    made = convert("PolypBenchmark", download, folders=folders, skip_broken=True)
    assert "Kvasir_1" not in subsets_of(made)


def test_a_missing_training_set_is_refused(download, folders):
    shutil.rmtree(download / "TrainDataset")
    with pytest.raises(NotFoundError, match="missing: TrainDataset"):
        convert("PolypBenchmark", download, folders=folders)


def hide_folders(root: Path) -> None:
    """Give the folders names that only the tables lead to."""
    (root / "resized" / "TrainDataset").rename(root / "resized" / "Training")
    for table in root.glob("*.csv"):
        table.write_text(table.read_text().replace("TrainDataset", "Training"))


def test_tables_lead_to_the_same_cases(tables, folders):
    hide_folders(tables)
    made = convert("PolypBenchmark", tables, folders=folders)
    assert subsets_of(made) == EXPECTED
    image = np.asarray(Image.open(made / "imagesTs" / "CVC-ColonDB_1_0000.png"))
    assert np.array_equal(image, picture(121))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("images/3.png", "images3.png"), ("masks/3.png", "masks/3.jpg"), ("/", "\\")],
    ids=["no slash", "wrong ending", "backslashes"],
)
def test_faults_of_the_tables_are_mended(tables, folders, right, wrong):
    hide_folders(tables)
    table = tables / "combined.csv"
    table.write_text(table.read_text().replace(right, wrong))
    (tables / "CVC-300.csv").unlink()
    assert subsets_of(convert("PolypBenchmark", tables, folders=folders)) == EXPECTED


def test_rows_without_files_are_refused_by_name(tables, folders):
    hide_folders(tables)
    (tables / "resized" / "Training" / "masks" / "4.png").unlink()
    with pytest.raises(DataError, match=r"4\.png: the file cannot be read: No such file"):
        convert("PolypBenchmark", tables, folders=folders)
    made = convert("PolypBenchmark", tables, folders=folders, skip_broken=True)
    assert subsets_of(made).keys() == EXPECTED.keys() - {"Train_4"}


def test_an_unknown_part_in_a_table_is_refused(tables, folders):
    hide_folders(tables)
    table = tables / "combined.csv"
    table.write_text(table.read_text().replace(",val,", ",holdout,"))
    with pytest.raises(DataError, match="has the part 'holdout'"):
        convert("PolypBenchmark", tables, folders=folders)
