"""Trainers that live outside this package: in a file, or in an installed package.

A file is named on the command line (``--plugin``) or in the variable ``NNMEDSEG_PLUGINS``, which
the processes that a training starts inherit. A package names its modules or classes under the entry
point group ``nnmedseg.trainers``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
import traceback
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.errors import NotFoundError, UserError

logger = logging.getLogger(__name__)

VARIABLE = "NNMEDSEG_PLUGINS"
ENTRY_POINTS = "nnmedseg.trainers"


def add_plugin(path: str | Path) -> None:
    """Load a file with trainers, here and in every process that this one starts.

    Raises:
        NotFoundError: There is no such file.
        UserError: It cannot be imported, or holds no trainer.
    """
    path = Path(path).expanduser().resolve()
    load_file(path)
    named = _named_files()
    if path not in named:
        os.environ[VARIABLE] = os.pathsep.join(map(str, [*named, path]))


def plugin_trainers() -> list[type[nnUNetTrainer]]:
    """Return the trainers of all files and packages that are known.

    Raises:
        UserError: A file cannot be imported, or holds no trainer.
    """
    found = [trainer for path in _named_files() for trainer in load_file(path)]
    for entry_point in entry_points(group=ENTRY_POINTS):
        found += _of_package(entry_point)
    return list(dict.fromkeys(found))


def load_file(path: Path) -> list[type[nnUNetTrainer]]:
    """Import a file, once, and return the trainers that it defines.

    Raises:
        NotFoundError: There is no such file.
        UserError: It cannot be imported, or defines no trainer.
    """
    if not path.is_file():
        raise NotFoundError(
            "there is no such plugin",
            where=path,
            mend=f"check --plugin and the variable {VARIABLE}",
        )
    # The same name in every process, so that what the file defines can be sent from one to another.
    name = f"nnmedseg_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    module = sys.modules.get(name) or _import(name, path)
    trainers = _defined_in(module)
    if not trainers:
        raise UserError(
            "the plugin defines no trainer",
            where=path,
            mend="define a subclass of nnmedseg.trainers.base.MedSegTrainer or of nnUNetTrainer",
        )
    return trainers


def _import(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise UserError("the plugin is no Python file", where=path, mend="name a .py file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        raise UserError(
            f"the plugin cannot be imported: {type(error).__name__}: {error}",
            where=path if line is None else f"{path}, line {line}",
            mend="mend the file; python FILE shows the whole traceback",
        ) from error
    return module


def _defined_in(module: ModuleType) -> list[type[nnUNetTrainer]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, nnUNetTrainer)
        and value.__module__ == module.__name__
    ]


@lru_cache
def _of_package(entry_point: EntryPoint) -> tuple[type[nnUNetTrainer], ...]:
    """Load what an installed package names; one that is broken does not stop the others."""
    try:
        value = entry_point.load()
    except Exception as error:
        logger.warning(
            "Passing over the trainers of %s: %s: %s",
            entry_point.value,
            type(error).__name__,
            error,
        )
        return ()
    if isinstance(value, ModuleType):
        return tuple(_defined_in(value))
    if isinstance(value, type) and issubclass(value, nnUNetTrainer):
        return (value,)
    logger.warning("Passing over %s: it is neither a trainer nor a module", entry_point.value)
    return ()


def _named_files() -> list[Path]:
    return [Path(entry) for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
