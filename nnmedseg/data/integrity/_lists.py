"""splits_final.json and conversion.json: whether they name the cases that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnmedseg.data.integrity._layout import FOLDERS, Layout, Part
from nnmedseg.data.integrity._report import Problem, problem
from nnmedseg.errors import list_some
from nnmedseg.files import read_json

SPLITS_FILE = "splits_final.json"
CONVERSION_FILE = "conversion.json"
PARTS: dict[str, Part] = {"train": "train", "validation": "train", "test": "test"}
"""The part of nnU-Net's folders that an official part of a release goes to."""


def check_splits(folder: Path, layout: Layout) -> Iterator[Problem]:
    """Check the folds, where there is a file of them."""
    path = folder / SPLITS_FILE
    if not path.is_file():
        return
    try:
        folds = _folds(read_json(path))
    except (OSError, ValueError) as error:
        what = f"it does not list the folds: {error}"
        yield problem("bad-split", SPLITS_FILE, what)
        return
    known, used = layout.ids("train"), set()
    for number, (train, validation) in enumerate(folds):
        used |= {*train, *validation}
        unknown = sorted({*train, *validation} - known)
        if unknown:
            what = f"fold {number} names cases that are not there: {list_some(unknown)}"
            yield problem("split-case", SPLITS_FILE, what)
        both = sorted(set(train) & set(validation))
        if both:
            what = f"fold {number} has cases in both train and val: {list_some(both)}"
            yield problem("split-overlap", SPLITS_FILE, what)
        for name, part in (("train", train), ("val", validation)):
            if not part:
                yield problem("bad-split", SPLITS_FILE, f"fold {number} has no case in {name}")
    unused = sorted(known - used)
    if unused:
        yield problem("split-unused", SPLITS_FILE, f"cases are in no fold: {list_some(unused)}")


def _folds(content: Any) -> list[tuple[list[str], list[str]]]:
    if not isinstance(content, list):
        raise ValueError("it must be a list of folds, each with train and val")
    return [
        (_ids(fold, "train", number), _ids(fold, "val", number))
        for number, fold in enumerate(content)
    ]


def _ids(fold: Any, name: str, number: int) -> list[str]:
    ids = fold.get(name) if isinstance(fold, dict) else None
    if not isinstance(ids, list) or not all(isinstance(case, str) for case in ids):
        raise ValueError(f"fold {number} must have a list of case ids under {name!r}")
    return ids


def check_conversion(folder: Path, layout: Layout, ending: str | None) -> Iterator[Problem]:
    """Check that the cases of a conversion are still there, and no others."""
    path = folder / CONVERSION_FILE
    if not path.is_file() or ending is None:
        return
    try:
        records = [(str(case["id"]), PARTS[case["part"]]) for case in read_json(path)["cases"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield problem(
            "bad-conversion",
            CONVERSION_FILE,
            f"it does not list its cases with id and part ({error!r})",
        )
        return
    for part, (images_folder, _) in FOLDERS.items():
        converted = {case_id for case_id, its_part in records if its_part == part}
        present = {case.id for case in layout.cases if case.part == part and case.images}
        for case_id in sorted(converted - present):
            what = f"{CONVERSION_FILE} names this case, and its image is not there"
            yield problem("missing-image", f"{images_folder}/{case_id}_0000{ending}", what)
        for case_id in sorted(present - converted):
            what = f"the case is not in {CONVERSION_FILE}: it was added after the conversion"
            yield problem("superfluous", f"{images_folder}/{case_id}_0000{ending}", what)
