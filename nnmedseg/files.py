"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BYTES_AT_ONCE = 2**20


@contextmanager
def atomic_path(target: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` when the block succeeds.

    The temporary name keeps the ending of ``target``, because writers choose their format by it,
    and starts with a dot, so that listings pass it over if the process dies.

    Args:
        target: The file to write.
        durable: Wait until its content is on the disk, so that not even a power failure leaves an
            empty file. Who writes thousands of files calls ``sync`` once instead.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = target.with_name(f".writing-{writer}-{target.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def sync() -> None:
    """Wait until everything that was written is on the disk, where the system can tell."""
    if hasattr(os, "sync"):
        os.sync()


def write_json(content: Any, target: str | Path) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(source: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(source).read_text("utf-8"))


def hash_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
