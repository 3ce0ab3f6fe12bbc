"""Tables that name images and masks by paths of another machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.dataset_conversion._patterns import list_files
from nnmedseg.dataset_conversion._side_files import read_table


def find_tables(root: Path, columns: Sequence[str]) -> dict[Path, list[dict[str, str]]]:
    """Return the rows of all CSV files below a folder that have certain columns, by file."""
    tables = {}
    for path, relative in list_files(root):
        if relative.casefold().endswith(".csv"):
            rows = read_table(path)
            if rows and set(columns) <= rows[0].keys():
                tables[path] = rows
    return tables


class Finder:
    """Finds the files below a folder that paths of another machine mean."""

    def __init__(self, root: Path):
        """Look at all images below ``root``."""
        self._by_name: dict[str, list[tuple[str, ...]]] = {}
        self._files: dict[tuple[str, ...], Path] = {}
        for path, relative in list_files(root):
            if relative.casefold().endswith(IMAGE_ENDINGS):
                parts = PurePosixPath(relative.casefold()).parts
                self._files[parts] = path
                self._by_name.setdefault(PurePosixPath(parts[-1]).stem, []).append(parts)

    def find(self, text: str) -> Path | None:
        """Return the only file that has the most folders at the end of its path in common.

        The file's name and, where ``text`` has one, the folder must be equal. Two faults of
        published tables are mended: a ``/`` missing between folder and name, and a wrong ending.
        """
        wanted = PurePosixPath(text.replace("\\", "/").casefold())
        if not wanted.name:
            return None
        for parts in (wanted.parts, *self._with_a_slash(wanted)):
            found = self._best(parts)
            if found is not None:
                return found
        return None

    def _best(self, wanted: Sequence[str]) -> Path | None:
        stem, ending = PurePosixPath(wanted[-1]).stem, PurePosixPath(wanted[-1]).suffix
        ranked = []
        for parts in self._by_name.get(stem, []):
            common = _common_folders(wanted, parts)
            if common or len(wanted) == 1:
                ranked.append(((common, parts[-1].endswith(ending)), parts))
        if not ranked:
            return None
        best = max(rank for rank, _ in ranked)
        candidates = [parts for rank, parts in ranked if rank == best]
        return self._files[candidates[0]] if len(candidates) == 1 else None

    def _with_a_slash(self, wanted: PurePosixPath) -> list[tuple[str, ...]]:
        """Return the paths with the name divided where it begins with the name of a folder."""
        folders = {folder for parts in self._files for folder in parts[:-1]}
        return [
            (*wanted.parent.parts, folder, wanted.name.removeprefix(folder))
            for folder in sorted(folders)
            if wanted.name.startswith(folder) and wanted.name != folder
        ]


def _common_folders(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for first, second in zip(reversed(a[:-1]), reversed(b[:-1]), strict=False):
        if first != second:
            break
        count += 1
    return count
