"""The journal of a conversion that is under way, so that it can go on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from nnmedseg.files import atomic_path

FILE_NAME = "journal.jsonl"


class Journal:
    """One line of JSON for each converted case, written when its files are complete.

    Args:
        folder: The folder that is being built.
        header: What must be equal for earlier lines to count, for instance the version of the
            program; lines under another header are dropped.
    """

    def __init__(self, folder: Path, header: dict[str, Any]):
        self.path = folder / FILE_NAME
        self.records: dict[str, dict[str, Any]] = {}
        lines = self._read_lines()
        if lines[:1] == [header]:
            self.records = {line["id"]: line for line in lines[1:]}
        with atomic_path(self.path) as temporary:
            kept = [header, *self.records.values()]
            temporary.write_text("".join(map(_as_line, kept)), "utf-8")
        self._file = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, record: dict[str, Any]) -> None:
        """Record a case whose files have been written."""
        if self.records.get(record["id"]) != record:
            self.records[record["id"]] = record
            self._file.write(_as_line(record))
            self._file.flush()

    def _read_lines(self) -> list[dict[str, Any]]:
        """Return the lines up to the first that a killed process left unfinished."""
        lines: list[dict[str, Any]] = []
        if not self.path.exists():
            return lines
        for line in self.path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return lines


def _as_line(content: dict[str, Any]) -> str:
    return json.dumps(content) + "\n"
