"""The files of one case: of the download, read once and hashed, and of the converted data set."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.errors import DataError
from nnmedseg.files import atomic_path

IMAGES_FOLDER = {"train": "imagesTr", "validation": "imagesTr", "test": "imagesTs"}
LABELS_FOLDER = {"train": "labelsTr", "validation": "labelsTr", "test": "labelsTs"}

Record = dict[str, Any]
"""What ``conversion.json`` says about a case."""


class CaseError(Exception):
    """Everything that is wrong with the files of one case.

    Attributes:
        case: Its id.
        problems: One sentence each.
        files: Its files.
    """

    def __init__(self, case: Case, problems: list[str]):
        self.case = case
        self.problems = problems
        self.files = (*case.images, *case.masks)
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class SourceFile:
    """A file of the download, read once.

    Attributes:
        path: Where it is.
        content: Its bytes.
        record: Name relative to the download folder, size in bytes, time of the last change (ns)
            and SHA-256.
    """

    path: Path
    content: bytes
    record: Record

    @property
    def name(self) -> str:
        """Name relative to the download folder."""
        return str(self.record["file"])

    @classmethod
    def read(cls, path: Path, root: Path) -> SourceFile:
        """Read and hash a file; DataError if that fails."""
        try:
            content = path.read_bytes()
            changed = path.stat().st_mtime_ns
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
        record = {
            "file": path.relative_to(root).as_posix(),
            "bytes": len(content),
            "changed_ns": changed,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return cls(path, content, record)


@dataclass(frozen=True)
class Targets:
    """Where the files of a converted case are written.

    Attributes:
        images: One file a channel; one PNG holds all channels of a photograph.
        mask: None when the case has no mask.
    """

    images: tuple[Path, ...]
    mask: Path | None

    def all(self) -> tuple[Path, ...]:
        """Return all of them."""
        return self.images if self.mask is None else (*self.images, self.mask)


def targets(case: Case, folder: Path, converter: DatasetConverter) -> Targets:
    """Return where the files of a case are written."""
    ending = converter.file_ending
    files = len(converter.channel_names) if converter.content == "volume" else 1
    images = folder / IMAGES_FOLDER[case.part]
    mask = folder / LABELS_FOLDER[case.part] / f"{case.id}{ending}" if case.masks else None
    return Targets(tuple(images / f"{case.id}_{n:04d}{ending}" for n in range(files)), mask)


def take_over(source: SourceFile, target: Path) -> None:
    """Give ``target`` the content of a file that needs no conversion.

    The two share their place on the disk (hard link) where the file system can do that; otherwise
    the content is written once more.
    """
    temporary = target.with_name(f".linking-{target.name}")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source.path.resolve(), temporary)  # a link to a symbolic link would be one too
    except OSError:
        _copy(source, target)
        return
    # Renaming a link onto another of the same file leaves both, so the old one goes first.
    with suppress(FileNotFoundError):
        target.unlink()
    temporary.replace(target)


def _copy(source: SourceFile, target: Path) -> None:
    with atomic_path(target, durable=False) as temporary:
        shutil.copyfile(source.path, temporary)
