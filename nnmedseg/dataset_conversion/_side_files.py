"""Lists and tables that lie beside the images of a release."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.dataset_conversion.base import Case, Part
from nnmedseg.dataset_conversion.finding import safe_id
from nnmedseg.errors import DataError, list_some

NAMES_SHOWN = 5


def find_beside(folder: Path, name: str, within: Sequence[str] = ()) -> Path | None:
    """Find a file in a folder, beside it, or in a folder called ``within`` at one of these places.

    Letter case does not matter.
    """
    for place in (folder, folder.parent):
        inner = [path for path in _content(place) if path.name.casefold() in within]
        for holder in (place, *(path for path in inner if path.is_dir())):
            for path in _content(holder):
                if path.name.casefold() == name.casefold() and path.is_file():
                    return path
    return None


def read_names(path: Path) -> list[str]:
    """Read a list with one name a line; folders and endings of images are left out of the names."""
    names = [file_stem(line.strip()) for line in _read_text(path).splitlines()]
    return [name for name in names if name]


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header, whatever its line ends.

    Returns:
        A dictionary for each row; its keys are in lower case, and blanks around keys and values are
        left out. Values that a row lacks are empty.

    Raises:
        DataError: It cannot be read.
    """
    try:
        rows = list(csv.reader(_read_text(path).splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"the table cannot be read: {error}", where=path) from error
    if not rows:
        return []
    header = [name.strip().casefold() for name in rows[0]]
    return [
        dict.fromkeys(header, "")
        | dict(zip(header, (value.strip() for value in row), strict=False))
        for row in rows[1:]
        if row
    ]


def file_stem(name: str) -> str:
    """Return a file's name without folders (of any system) and without the ending of images."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.casefold() in IMAGE_ENDINGS else path.name


def parts_by_lists(
    cases: Sequence[Case], lists: Mapping[Part, Path]
) -> tuple[list[Case], list[str]]:
    """Give cases the parts that lists have them in.

    A list that names none of the cases is another data set's and counts for nothing. Cases that no
    list names are training cases.

    Args:
        cases: The cases; their ids are their files' names.
        lists: The file of each part's list.

    Returns:
        The cases with their parts, and notes on what does not fit, one sentence each.

    Raises:
        DataError: A case is in two lists, or a list cannot be read.
    """
    known = {case.id.casefold() for case in cases}
    part_of: dict[str, Part] = {}
    twice: set[str] = set()
    notes = []
    for part, path in lists.items():
        names = dict.fromkeys(read_names(path))
        keys = {safe_id(name).casefold(): name for name in names}
        absent = [name for key, name in keys.items() if key not in known]
        if len(absent) == len(keys):
            notes.append(f"{path.name} is not used: it names none of the images")
            continue
        if absent:
            shown = list_some(absent, NAMES_SHOWN)
            notes.append(f"{path.name} names {len(absent)} image(s) that are not here: {shown}")
        twice |= part_of.keys() & keys
        part_of |= dict.fromkeys(keys, part)
    if twice:
        raise DataError(
            f"images are in two lists: {list_some(sorted(twice), NAMES_SHOWN)}",
            where=", ".join(path.name for path in lists.values()),
            mend="take the lists out, or correct them: an image can be of one part only",
        )
    unnamed = [case.id for case in cases if case.id.casefold() not in part_of]
    if part_of and unnamed:
        shown = list_some(unnamed, NAMES_SHOWN)
        notes.append(f"No list names {len(unnamed)} image(s), which are for training: {shown}")
    placed = [replace(case, part=part_of.get(case.id.casefold(), "train")) for case in cases]
    return placed, notes


def _content(folder: Path) -> list[Path]:
    """Return what is in a folder, nothing if it is one that the user may not list."""
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\0", "")
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
