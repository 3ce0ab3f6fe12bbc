"""One process at a time for a folder that is being made."""

from __future__ import annotations

import datetime
import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a folder, which lies beside it; a dead process leaves it open.

    On a file system without locks a warning is all that can be done.

    Args:
        folder: The folder that one process may make at a time; it need not exist.
        doing: What is done to it, for the message, as in "is being trained".

    Raises:
        UserError: Another process holds the lock; the message says which, where and since when.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    # Beside the lock file: on Windows nobody else may read that, and old versions of filelock empty
    # it when they try to lock it.
    holder = folder.with_name(f".{folder.name}.holder.json")
    if not _acquire(lock, folder, holder, doing):
        yield
        return
    try:
        write_json(_this_process(), holder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, folder: Path, holder: Path, doing: str) -> bool:
    """Return whether the lock is held now; False where there can be none."""
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder.name} is being {doing} by {_describe(holder)}",
            where=folder,
            mend="wait until it has finished, or stop it; the same command then goes on",
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "The file system of %s has no locks: see to it yourself that no second process works "
            "on %s",
            folder.parent,
            folder.name,
        )
        return False
    return True


def _this_process() -> dict[str, Any]:
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _describe(holder: Path) -> str:
    try:
        record = read_json(holder)
        return f"process {record['pid']} on {record['host']} since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has just begun, or is ending
