"""What is already there: the same data set, another one of its name, or one of its number."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

from nnmedseg.dataset_conversion._case_files import Record, SourceFile, targets
from nnmedseg.dataset_conversion._checks import CheckedCases
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.errors import DataError, list_some
from nnmedseg.files import read_json
from nnmedseg.paths import Folders

Settings = dict[str, Any]
"""What was chosen for a conversion and decides its result, as JSON holds it."""


def refuse_taken_number(name: str, folders: Folders) -> None:
    """Raise DataError if a data set of another name has the number of ``name``."""
    prefix = name.partition("_")[0]
    for parent in (folders.raw, folders.preprocessed, folders.results):
        others = [path for path in sorted(parent.glob(f"{prefix}_*")) if path.name != name]
        if others:
            raise DataError(
                f"the number of {name} is taken by {others[0].name}",
                where=others[0],
                mend="choose another number with -d, or remove that data set",
            )


def refuse_other_data(
    final: Path, converter: DatasetConverter, checked: CheckedCases, root: Path, settings: Settings
) -> None:
    """Raise DataError unless ``final`` is complete and was made from the same files.

    A file counts as the same when its name, part, size and time of change are, or, if only the
    time differs, its SHA-256.
    """
    differences = _differences(final, converter, checked, root, settings)
    if differences:
        raise DataError(
            f"{final.name} exists already and differs from this download: "
            f"{list_some(differences, limit=5)}",
            where=final,
            mend="give --overwrite to replace it, or -d ID to keep both",
        )


def _differences(
    final: Path, converter: DatasetConverter, checked: CheckedCases, root: Path, settings: Settings
) -> list[str]:
    try:
        conversion = read_json(final / "conversion.json")
        recorded = {case["id"]: case for case in conversion["cases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return ["it has no readable conversion.json, so nnmedseg_convert has not made it"]
    if conversion.get("dataset") != converter.name:
        return [f"it was made from {conversion.get('dataset')}"]
    if conversion.get("settings") != settings:
        return [f"it was made with {_listed(conversion.get('settings'))}, not {_listed(settings)}"]
    broken = {entry["file"] for entry in conversion["skipped"] if entry.get("broken")}
    wanted = {case.id: case for case in checked.cases if not _has_any(case, broken, root)}
    differences = [f"case {name} is not in the download" for name in recorded if name not in wanted]
    differences += [
        problem.what
        for problem in checked.problems
        if not {path.relative_to(root).as_posix() for path in problem.files} <= broken
    ]
    for case in wanted.values():
        written = targets(case, final, converter)
        if case.id not in recorded:
            differences.append(f"case {case.id} is new")
        elif not _is_same(case, recorded[case.id], root):
            differences.append(f"case {case.id} has changed")
        elif not all(path.exists() for path in written.all()):
            differences.append(f"files of case {case.id} are missing in it")
    return differences


def _listed(settings: Any) -> str:
    if not isinstance(settings, dict):
        return "unknown options"
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "no options"


def _has_any(case: Case, files: set[str], root: Path) -> bool:
    return any(path.relative_to(root).as_posix() in files for path in (*case.images, *case.masks))


def _is_same(case: Case, record: Record, root: Path) -> bool:
    return record["part"] == case.part and all(
        len(files) == len(record[kind])
        and all(map(_is_same_file, files, record[kind], repeat(root)))
        for kind, files in (("images", case.images), ("masks", case.masks))
    )


def _is_same_file(path: Path, record: Record, root: Path) -> bool:
    state = path.stat()
    if path.relative_to(root).as_posix() != record["file"] or state.st_size != record["bytes"]:
        return False
    if state.st_mtime_ns == record["changed_ns"]:
        return True
    return bool(SourceFile.read(path, root).record["sha256"] == record["sha256"])
