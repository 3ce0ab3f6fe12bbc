"""Putting an archive of a model where commands find it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.sharing.archive_checks import CheckedArchive, check_archive


@dataclass(frozen=True)
class InstalledModel:
    """A model folder that was made of an archive.

    Attributes:
        folder: The model folder.
        checkpoint: ``"final"`` or ``"best"``: what ``--checkpoint`` has to be.
    """

    folder: Path
    checkpoint: str


def install_model(
    archive: str | Path,
    *,
    results: Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
) -> InstalledModel:
    """Unpack an archive that :func:`write_archive` has made, after all of it was checked.

    It is unpacked beside its place and then renamed, so that nothing is ever half installed.

    Args:
        archive: The file.
        results: Folder of trained models; the model goes to ``DatasetNNN_Name/Trainer__...`` in it.
        output: The model folder to make instead.
        force: Replace the model folder if there is one.

    Raises:
        NotFoundError: There is no such file.
        DataError: It is damaged, is none of ours, or could do harm.
        UserError: The folder is taken.
    """
    path = Path(archive)
    if not path.is_file():
        raise NotFoundError("there is no such archive", where=path, mend="check the path")
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(
            "the file is no ZIP archive, or a damaged one", where=path, mend="copy it again"
        ) from error
    with opened:
        checked = check_archive(opened)
        manifest = checked.manifest
        if output is not None:
            target = Path(output)
        elif results is not None:
            target = results / manifest["dataset"] / manifest["name"]
        else:
            raise ValueError("either results or output is needed")
        _check_free(target, force=force)
        _put(checked, target)
    return InstalledModel(target, manifest["checkpoint"])


def _check_free(target: Path, *, force: bool) -> None:
    """Refuse a folder that is there, unless it is a model's, or empty, and may be replaced."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError("a file or link is in the way", where=target, mend="name another folder")
    if not target.exists() or not any(target.iterdir()):
        return
    if not (target / "plans.json").is_file():
        raise UserError(
            "the folder holds something else than a model", where=target, mend="name another one"
        )
    if not force:
        raise UserError(
            "the model folder exists already",
            where=target,
            mend="give --force to replace all of it, or -o to install beside it",
        )


def _put(checked: CheckedArchive, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(facts["bytes"] for facts in checked.manifest["files"].values())
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise UserError(
            f"the model takes {needed} bytes, and {free} are free", where=target.parent,
            mend="make room, or install it elsewhere with -o",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as scratch:
        unpacked, replaced = Path(scratch) / "model", Path(scratch) / "replaced"
        unpacked.mkdir()
        checked.unpack(unpacked)
        if target.exists():
            target.rename(replaced)
        try:
            unpacked.rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
