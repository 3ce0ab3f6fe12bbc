"""The meanings of options, read from where they are documented: the classes' docstrings."""

from __future__ import annotations

import inspect
import re

_ENTRY = re.compile(r" {4}(?P<names>\w+(?:, \w+)*): (?P<meaning>.*)")


def option_meanings(documented: type) -> dict[str, str]:
    """The entries of the ``Args`` sections of a class and of those that it inherits from.

    Returns:
        One line of plain text by the option's name; the class's own docstring goes first.
    """
    meanings: dict[str, str] = {}
    for ancestor in documented.__mro__:
        for name, meaning in _arguments(ancestor.__dict__.get("__doc__") or "").items():
            meanings.setdefault(name, meaning)
    return meanings


def _arguments(docstring: str) -> dict[str, str]:
    _, _, rest = inspect.cleandoc(docstring).partition("\nArgs:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in rest.splitlines():
        if not line.startswith("    "):
            break
        entry = _ENTRY.fullmatch(line)
        if entry:
            names = entry["names"].split(", ")
            meanings |= dict.fromkeys(names, entry["meaning"].replace("`", ""))
        else:
            continued = " " + line.strip().replace("`", "")
            meanings |= {name: meanings[name] + continued for name in names}
    return meanings
