"""The data sets that can be converted, by name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TypeVar

from nnmedseg.dataset_conversion.base import DatasetConverter, Options
from nnmedseg.errors import NotFoundError

FRAMEWORK = ("base", "finding", "overlap", "protocols", "registry")
LAST = 1000
_CONVERTERS: dict[str, type[DatasetConverter]] = {}

Converter = TypeVar("Converter", bound=type[DatasetConverter])


def register(converter: Converter) -> Converter:
    """Class decorator: make a data set known under its name.

    Raises:
        ValueError: Another data set has this name or number.
    """
    for other in _CONVERTERS.values():
        same_number = other.number == converter.number is not None
        if _key(other.name) == _key(converter.name) or same_number:
            raise ValueError(
                f"{converter.name} ({converter.number}) clashes with {other.name} ({other.number})"
            )
    _CONVERTERS[_key(converter.name)] = converter
    return converter


def list_converters() -> list[type[DatasetConverter]]:
    """Return all data sets, sorted by number, those without one last."""
    _import_data_sets()
    return sorted(_CONVERTERS.values(), key=lambda converter: converter.number or LAST)


def find_converter(name: str, options: Options | None = None) -> DatasetConverter:
    """Return the converter of a data set.

    Args:
        name: Its name, in any letter case and with or without hyphens, underscores and blanks.
        options: What the user chose about it.

    Raises:
        NotFoundError: There is no such data set; the nearest name is suggested.
        UserError: The data set does not have one of the options.
    """
    _import_data_sets()
    if _key(name) in _CONVERTERS:
        return _CONVERTERS[_key(name)](options)
    nearest = difflib.get_close_matches(_key(name), _CONVERTERS, n=1, cutoff=0.5)
    suggestion = f"did you mean {_CONVERTERS[nearest[0]].name}? " if nearest else ""
    raise NotFoundError(
        f"there is no converter for a data set called {name!r}",
        mend=f"{suggestion}nnmedseg_convert --list shows all that there are",
    )


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _import_data_sets() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_") and module.name not in FRAMEWORK:
            importlib.import_module(f"{package}.{module.name}")
