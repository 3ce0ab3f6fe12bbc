"""The five polyp sets as PraNet's authors divided them: one training set, five test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nnmedseg.dataset_conversion._listed_files import Finder, find_tables
from nnmedseg.dataset_conversion._patterns import list_files
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Part
from nnmedseg.dataset_conversion.finding import (
    find_folders,
    find_images,
    pair_by_name,
    require_folders,
    safe_id,
    subfolders,
)
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError, list_some

TEST_SETS = {
    "CVC-300": 60,
    "CVC-ClinicDB": 62,
    "CVC-ColonDB": 380,
    "ETIS-LaribPolypDB": 196,
    "Kvasir": 100,
}
"""Images of each test set, 798 in all."""
TRAINING_SET = "TrainDataset"
TRAINING_IMAGES = 1450
PART_FOLDERS = {"images": ("images", "image"), "masks": ("masks", "mask")}
COLUMNS = ("image_name", "train_type", "mask_name")


@register
class PolypBenchmark(DatasetConverter):
    """900 images of Kvasir-SEG and 550 of CVC-ClinicDB for training, five test sets.

    Numbers repeat between the sets, so ids begin with the set's name. ProMISe's tables are read
    where the folders are not there.
    """

    name = "PolypBenchmark"
    number = 15
    title = "Five polyp sets (colonoscopy) in the division of PraNet"
    page = "https://github.com/DengPingFan/PraNet"
    licence = "Those of the five sets: research, with citation"
    citation = "Fan et al., PraNet: Parallel Reverse Attention Network, MICCAI 2020"
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find the folders, or otherwise the files that tables name.

        Raises:
            NotFoundError: There are neither.
            DataError: A table has another part than train, val and test.
        """
        found = find_folders(root, [TRAINING_SET, "TestDataset"])
        tables = {} if TRAINING_SET in found else find_tables(root, COLUMNS)
        if tables:
            cases = self._in_tables(root, tables)
        else:
            require_folders(root, [] if TRAINING_SET in found else [TRAINING_SET])
            cases = self._in_folders(found)
        self._note_counts(cases)
        self.notes.append(
            "Report each test set alone. ProMISe chooses its checkpoint on the union of the test "
            "sets that it reports on; here nothing of them is used for a choice."
        )
        return cases

    def _in_folders(self, found: Mapping[str, Path]) -> list[Case]:
        cases = _with_prefix(_cases_of_set(found[TRAINING_SET], "train"), "Train")
        test_sets = subfolders(found["TestDataset"]) if "TestDataset" in found else []
        for folder in sorted(test_sets):
            name = _test_set((folder.name,))
            if name is None:
                files = (path for path, _ in list_files(folder))
                self.left_out |= dict.fromkeys(files, "in none of the five test sets")
                self.notes.append(f"{folder.name} was left out: it is none of the five test sets.")
                continue
            cases += _with_prefix(_cases_of_set(folder, "test"), name)
        return cases

    def _in_tables(self, root: Path, tables: Mapping[Path, list[dict[str, str]]]) -> list[Case]:
        finder = Finder(root)
        cases: dict[str, Case] = {}
        for table, rows in tables.items():
            for row in rows:
                name = row["image_name"].replace("\\", "/")
                if row["train_type"] not in ("train", "val", "test"):
                    raise DataError(
                        f"{name} has the part {row['train_type']!r}",
                        where=table,
                        mend="train_type is train, val or test",
                    )
                image = finder.find(name)
                mask = finder.find(row["mask_name"])
                subset = _test_set(PurePosixPath(name).parts) or _test_set((table.stem,))
                prefix = "Train" if row["train_type"] == "train" else subset or "Test"
                # A file that is not there is reported with its name when it cannot be read.
                case = Case(
                    f"{prefix}_{safe_id((image or PurePosixPath(name)).stem)}",
                    (image or root / name.rpartition("/")[2],),
                    (mask or root / row["mask_name"].rpartition("/")[2],),
                    "train" if prefix == "Train" else "test",
                    subset=None if prefix == "Train" else prefix,
                )
                cases[case.id] = case
        return list(cases.values())

    def _note_counts(self, cases: Sequence[Case]) -> None:
        counts = Counter(case.subset or TRAINING_SET for case in cases)
        expected = {TRAINING_SET: TRAINING_IMAGES, **TEST_SETS}
        different = [
            f"{name} {counts[name]} of {expected[name]}"
            for name in expected
            if counts[name] != expected[name]
        ]
        if different:
            self.notes.append(
                f"The numbers of images are not those of the release: {list_some(different)}."
            )


def _cases_of_set(folder: Path, part: Part) -> list[Case]:
    found = {
        kind: next((path for name, path in find_folders(folder, names).items()), None)
        for kind, names in PART_FOLDERS.items()
    }
    require_folders(folder, [kind for kind, path in found.items() if path is None])
    images, masks = (find_images(path) for path in found.values() if path is not None)
    return pair_by_name(images, masks, part=part)


def _with_prefix(cases: Sequence[Case], prefix: str) -> list[Case]:
    subset = None if prefix == "Train" else prefix
    return [replace(case, id=f"{prefix}_{case.id}", subset=subset) for case in cases]


def _test_set(names: Sequence[str]) -> str | None:
    """Return the test set that one of the names is, or begins with."""
    for name in names:
        for test_set in TEST_SETS:
            if name.casefold().startswith(test_set.casefold()):
                return test_set
    return None
