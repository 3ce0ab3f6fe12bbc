"""One conversion of a data set at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nnmedseg.errors import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a data set's folder; a killed process leaves it open.

    Raises:
        UserError: Another process holds it.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder.name} is being converted by another process",
            where=folder,
            mend="wait until it has finished, or stop it; the same command then goes on",
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
