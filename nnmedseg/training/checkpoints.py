"""Checkpoint files: written whole or not at all, and read without running code from them."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnmedseg.errors import UserError, WeightsError
from nnmedseg.files import atomic_path

logger = logging.getLogger(__name__)

FINAL = "checkpoint_final.pth"
LATEST = "checkpoint_latest.pth"
PREVIOUS = "checkpoint_previous.pth"
"""The one before the latest: with the best and the one being written, four lie on the disk."""

BEST = "checkpoint_best.pth"
"""For predicting; training does not go on from it, because later epochs would be lost."""

RESUMABLE = (FINAL, LATEST, PREVIOUS)
FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@contextmanager
def only_plain_values() -> Iterator[None]:
    """Let ``torch.load`` read tensors and plain values only, whatever its caller asks for.

    nnU-Net loads checkpoints with ``weights_only=False``, which runs whatever code the file holds.
    What its own checkpoints hold beside plain values is allowed: NumPy's numbers.
    """
    before = os.environ.get(FORCE_WEIGHTS_ONLY)
    os.environ[FORCE_WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals(_classes_of_numpys_numbers()):
            yield
    finally:
        if before is None:
            del os.environ[FORCE_WEIGHTS_ONLY]
        else:
            os.environ[FORCE_WEIGHTS_ONLY] = before


def _classes_of_numpys_numbers() -> list[Any]:
    """What the pickle of a NumPy number names: its maker, and the class of its data type."""
    make = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + "?" + "efdg"}
    # NumPy 1 and 2 have the maker in different modules: a file names that of its writer.
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((make, name) for name in names), np.dtype, *dtypes]


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return what a trainer has saved, on the CPU.

    Raises:
        WeightsError: The file is damaged, is no checkpoint, or holds code.
    """
    try:
        compare_checksums(path)
        with only_plain_values():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    if not isinstance(content, Mapping) or "network_weights" not in content:
        raise unreadable(path, ValueError("it holds no network_weights"))
    return content


def compare_checksums(path: Path) -> None:
    """Look for bytes that have changed since they were written, which PyTorch does not do.

    Raises:
        zipfile.BadZipFile: There are some.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")


def unreadable(path: Path, error: BaseException) -> WeightsError:
    """Return the error of a checkpoint that cannot be read, with the reason in one line."""
    # PyTorch's advice on switching the protection off would help whoever made the file.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        reason = "it is damaged, or holds more than tensors and plain values, which may be code"
    return WeightsError(
        f"the checkpoint cannot be read: {reason}",
        where=path,
        mend="copy it again if it is a copy, or train again with --overwrite",
    )


def newest_readable(fold: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """Return the newest checkpoint of a fold that can be read, or None where there is none at all.

    A damaged one is reported and gives way to the one before.

    Raises:
        WeightsError: There are checkpoints, and none can be read.
    """
    problem = None
    for path in (fold / name for name in RESUMABLE):
        if not path.is_file():
            continue
        try:
            return path, read_checkpoint(path)
        except WeightsError as error:
            problem = error
            logger.warning("Passing over %s: %s", path.name, error.what)
    if problem is not None:
        raise problem
    return None


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint; until it is whole and on the disk, the earlier ones stay as they are.

    The latest checkpoint before becomes the previous one.

    Raises:
        UserError: The disk is full.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:
            # PyTorch hides what went wrong in writing behind an error of its own.
            causes = list(_chain(error))
            for cause in causes:
                if isinstance(cause, KeyboardInterrupt):
                    raise cause from None
            for cause in causes:
                if isinstance(cause, OSError):
                    raise _not_written(path, cause) from error
            raise
        if path.name == LATEST:
            _keep_previous(path, temporary)


def link_as_latest(source: Path) -> None:
    """Make a checkpoint that has just been written the latest one too, without writing it again.

    Raises:
        OSError: There is no such file, or the file system knows no second name for a file.
    """
    latest = source.with_name(LATEST)
    with atomic_path(latest) as temporary:
        temporary.hardlink_to(source)
        _keep_previous(latest, temporary)


def _keep_previous(latest: Path, successor: Path) -> None:
    """Rename the latest checkpoint to the previous one, once its successor is on the disk.

    Until that is renamed too there is a previous one only, which is enough to go on from.
    """
    if latest.is_file():
        with successor.open("rb+") as file:
            os.fsync(file.fileno())
        latest.replace(latest.with_name(PREVIOUS))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


def _not_written(path: Path, reason: OSError) -> UserError:
    free = shutil.disk_usage(path.parent).free / 2**20
    return UserError(
        f"the checkpoint cannot be written: {reason.strerror or reason} "
        f"({free:.0f} MiB are free); the earlier ones are kept",
        where=path,
        mend="make room on the disk, then run the same command again: it goes on from the last "
        "checkpoint",
    )


def remove_unfinished(fold: Path) -> None:
    """Delete what killed processes were writing when they died; the fold's lock must be held."""
    for path in fold.glob(".writing-*-checkpoint_*.pth"):
        path.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Return a value with NumPy's numbers as Python's, so that reading it needs no other class.

    Raises:
        TypeError: It holds an object that a checkpoint must not hold.
    """
    if value is None or isinstance(value, (bool, str, bytes, torch.Tensor, torch.device)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}: {value!r}")
