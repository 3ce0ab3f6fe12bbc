"""Which names of files an archive may hold: those that mean the same on every system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from nnmedseg.errors import DataError

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?<!\.)")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that Windows takes for devices."""


def check_names(names: Sequence[str]) -> None:
    """Refuse names that lead out of a folder, or of which two could be one file.

    Args:
        names: As they stand in the archive, before anything was made of them.

    Raises:
        DataError: Says which name it is, and why.
    """
    seen: set[str] = set()
    for name in names:
        problem = _problem(name)
        if problem is None and name.lower() in seen:
            problem = "two files have this name, but for capital letters"
        if problem is not None:
            raise DataError(
                f"the archive is not installed: {problem}",
                where=repr(name),
                mend="have it exported again, and use only models from people you trust",
            )
        seen.add(name.lower())
    for name in names:
        for parent in PurePosixPath(name.lower()).parents:
            if str(parent) in seen:
                raise DataError(
                    "the archive is not installed: a file has the name of a folder",
                    where=repr(name),
                    mend="have it exported again",
                )


def _problem(name: str) -> str | None:
    parts = name.split("/")
    problems = {
        "a name holds a backslash": "\\" in name,
        "a name is an absolute path": name.startswith("/"),
        "a name holds a colon, as drive letters do": ":" in name,
        "a name leads out of the folder": ".." in parts,
        "it holds a folder as an entry of its own": name.endswith("/"),
        "a name holds unusual characters": not all(_PART.fullmatch(part) for part in parts),
        "a name is that of a device": any(_RESERVED.fullmatch(part.lower()) for part in parts),
    }
    return next((problem for problem, found in problems.items() if found), None)
