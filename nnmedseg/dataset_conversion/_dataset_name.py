"""The name of a converted data set, where the user chooses it."""

from __future__ import annotations

import re

from nnmedseg.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_dataset_name(name: str | None) -> str:
    """Return a name that can follow ``DatasetNNN_``.

    Raises:
        UserError: There is none, or it has other characters than folders' names should have.
    """
    if name is not None and NAME.fullmatch(name):
        return name
    raise UserError(
        "the data set needs a name" if name is None else f"{name!r} cannot be a folder's name",
        where="-n",
        mend="choose one of letters, digits, hyphens and underscores, for instance -n MyPolyps",
    )
