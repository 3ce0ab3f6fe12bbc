"""Mistakes that a user can make and mend, as exceptions that say how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class UserError(Exception):
    """Something that the user can mend: what is wrong, where, and what to do about it.

    Commands print the message without a traceback and exit with its code.

    Attributes:
        exit_code: Of the command: 2, unless the kind of error has its own.

    Args:
        what: The problem in one sentence.
        where: The file, folder or argument that it concerns.
        mend: What to do about it, as an instruction.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None):
        self.what = what
        self.where = where
        self.mend = mend
        lines = [what]
        if where is not None:
            lines.append(f"  where: {where}")
        if mend is not None:
            lines.append(f"  to mend it: {mend}")
        super().__init__("\n".join(lines))


class DataError(UserError):
    """An image, mask or data set that cannot be used as it is."""


class NotFoundError(UserError):
    """A file, folder, plan or name that does not exist."""


class SizeError(UserError, ValueError):
    """A tensor or image of a size or shape that a network does not accept."""


class WeightsError(UserError):
    """A checkpoint that does not hold what the network needs."""


class NonFiniteError(UserError):
    """A training whose losses or gradients are not finite, and that going back has not mended."""

    exit_code = 3


def list_some(names: Sequence[object], limit: int = 10) -> str:
    """Join names with commas, at most ``limit`` of them, and say how many more there are."""
    shown = ", ".join(str(name) for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
