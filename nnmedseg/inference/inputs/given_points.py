"""The file of point prompts that a user writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.errors import DataError, NotFoundError

_EXAMPLE = '{"case": [{"x": 120, "y": 85, "label": 1}, {"x": 10, "y": 12, "label": 0}]}'
_REQUIRED = {"x", "y", "label"}
_KNOWN = _REQUIRED | {"class", "z"}


@dataclass(frozen=True)
class GivenPoint:
    """A point of a user.

    Attributes:
        x: From the left, in pixels; whole numbers are the pixels' centres.
        y: From above.
        label: 1 on the object, 0 beside it.
        class_index: Which foreground class, from 0.
        z: Slice, from 0, or ``None`` where nothing was said.
    """

    x: float
    y: float
    label: int
    class_index: int = 0
    z: int | None = None


def read_points(path: Path, classes: int) -> dict[str, list[GivenPoint]]:
    """Read the points of all cases.

    Args:
        path: The JSON file.
        classes: Foreground classes of the model.

    Raises:
        NotFoundError: There is no such file.
        DataError: It does not hold such points.
    """
    if not path.is_file():
        raise NotFoundError(
            "there is no such file of prompts", where=path, mend="check the path of --prompts"
        )
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _wrong(path, f"it is no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(x, list) for x in content.values()):
        raise _wrong(path, "it names no list of points for each case")
    return {
        case: [_point(path, case, entry, classes) for entry in entries]
        for case, entries in content.items()
    }


def _point(path: Path, case: str, entry: Any, classes: int) -> GivenPoint:
    if not isinstance(entry, dict) or not _REQUIRED <= set(entry) <= _KNOWN:
        raise _wrong(path, f"a point of {case!r} has not x, y and label: {entry!r}")
    is_number = all(_is_number(entry[name]) for name in ("x", "y"))
    if not is_number or entry["label"] not in (0, 1):
        raise _wrong(path, f"a point of {case!r} has x and y in pixels and label 1 or 0: {entry!r}")
    number, z = entry.get("class", 1), entry.get("z")
    if not isinstance(number, int) or not 1 <= number <= classes:
        raise _wrong(path, f"a point of {case!r} has a class from 1 to {classes}: {entry!r}")
    if z is not None and (isinstance(z, bool) or not isinstance(z, int)):
        raise _wrong(path, f"a point of {case!r} has a slice z, a whole number: {entry!r}")
    return GivenPoint(entry["x"], entry["y"], int(entry["label"]), number - 1, z)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(path: Path, what: str) -> DataError:
    return DataError(
        f"the file of prompts cannot be used: {what}",
        where=path,
        mend=f"write it like {_EXAMPLE}",
    )
