"""What an archive of a model is checked for before anything of it is unpacked.

Whoever made the file may have meant harm: sizes and names in it are claims until they are checked,
and so are weights, which are pickles, and plans, which name the class that is built.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.inference.sharing.archive import FORMAT, MANIFEST, NEEDED_FILES
from nnmedseg.inference.sharing.archive_names import check_names
from nnmedseg.networks.frozen import FROZEN_WEIGHTS
from nnmedseg.training.checkpoints import only_plain_values

MOST_FILES = 200
LARGEST_MANIFEST = 1 << 20
LARGEST_FILE = 8 << 30
LARGEST_ARCHIVE = 32 << 30
LARGEST_RATIO = 100
"""Of a file's size to what it takes in the archive; text reaches 20, a bomb 1,000."""

_ENCRYPTED = 0x1 | 0x40  # bits of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NETWORKS = ("nnmedseg.", "dynamic_network_architectures.", "nnunetv2.")
_PARTS_OF_NETWORKS = ("torch.nn.", "nnmedseg.", "dynamic_network_architectures.")
_MODEL = re.compile(r"[A-Za-z0-9]+(__[A-Za-z0-9][A-Za-z0-9_.-]*){2}")
_DATASET = re.compile(r"Dataset\d{3}_[A-Za-z0-9_.-]+")
_BYTES_AT_ONCE = 1 << 20
_NNUNETS = re.compile(r"Dataset[^/]+/[^/]+__[^/]+__[^/]+/plans\.json")
_UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError)


@dataclass(frozen=True)
class CheckedArchive:
    """An archive that has passed all checks.

    Attributes:
        manifest: Content of its ``manifest.json``.
        archive: The open file.
    """

    manifest: Mapping[str, Any]
    archive: zipfile.ZipFile

    def unpack(self, folder: Path) -> None:
        """Write all files but the manifest into an empty folder.

        Raises:
            DataError: The file has changed since it was checked.
        """
        for name, facts in self.manifest["files"].items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                _copy(self.archive, name, facts, file)


def check_archive(archive: zipfile.ZipFile) -> CheckedArchive:
    """Check all there is to check.

    Raises:
        DataError: The archive is damaged, is none of ours, or could do harm.
    """
    entries = archive.infolist()
    _check_entries(entries, Path(archive.filename or "").stat().st_size)
    manifest = _read_manifest(archive, entries)
    files = manifest["files"]
    _check_same_files(entries, files)
    with tempfile.TemporaryFile() as weights:
        for name, facts in files.items():
            weights.seek(0)
            weights.truncate()
            _copy(archive, name, facts, weights)
            if name.endswith(".pth"):
                _check_weights(name, facts["bytes"], weights, files)
            else:
                weights.seek(0)
                _check_json(name, weights.read())
    return CheckedArchive(manifest, archive)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Check what the archive's directory says, without reading a file."""
    if len(entries) > MOST_FILES:
        raise _refused(f"it holds {len(entries)} files, and a model has at most {MOST_FILES}")
    check_names([entry.orig_filename for entry in entries])
    for entry in entries:
        problem = _problem(entry)
        if problem is not None:
            raise _refused(problem, entry.orig_filename)
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST_ARCHIVE:
        raise _refused(f"its files have {total} bytes, more than {LARGEST_ARCHIVE}")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end or entry.header_offset + entry.compress_size > size:
            raise _refused("its files lie over one another", entry.orig_filename)
        end = entry.header_offset + entry.compress_size


def _problem(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    problems = {
        "it holds a link or a special file": kind not in (0, stat.S_IFREG),
        "it holds an encrypted file": bool(entry.flag_bits & _ENCRYPTED),
        "it holds a file of an unusual compression": entry.compress_type not in _METHODS,
        "it holds a file that is too large": entry.file_size > LARGEST_FILE,
        "it holds a file that is compressed too well": (
            entry.file_size > LARGEST_RATIO * max(entry.compress_size, 1)
        ),
    }
    return next((problem for problem, found in problems.items() if found), None)


def _read_manifest(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, Any]:
    names = {entry.filename: entry for entry in entries}
    if MANIFEST not in names:
        if any(_NNUNETS.fullmatch(name) for name in names):
            raise DataError(
                "this is an archive of nnUNetv2_export_model_to_zip, which has no manifest to "
                "check it by",
                where=archive.filename,
                mend="if you trust whoever made it: nnUNetv2_install_pretrained_model_from_zip",
            )
        raise _refused(f"it has no {MANIFEST}, so nnmedseg_export has not made it")
    if names[MANIFEST].file_size > LARGEST_MANIFEST:
        raise _refused("its manifest is too large", MANIFEST)
    try:
        manifest = json.loads(archive.read(MANIFEST))
        _check_manifest(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise _refused("its manifest is damaged", MANIFEST) from error
    return manifest


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raise an error of some kind where something is missing or of a wrong type."""
    if manifest["format"] != FORMAT:
        raise DataError(
            f"the archive is of format {manifest['format']}, and this version knows {FORMAT}",
            where=MANIFEST,
            mend="install a newer nnmedseg",
        )
    if not (_MODEL.fullmatch(manifest["name"]) and _DATASET.fullmatch(manifest["dataset"])):
        raise ValueError("the names of model or data set are none")
    if manifest["checkpoint"] not in ("final", "best"):
        raise ValueError("unknown kind of checkpoint")
    for name, facts in manifest["files"].items():
        sound = type(facts["bytes"]) is int and re.fullmatch("[0-9a-f]{64}", facts["sha256"])
        if not sound or not name.endswith((".json", ".pth")):
            raise ValueError(f"{name} is described wrongly")
    needed = {f"fold_{fold}/checkpoint_{manifest['checkpoint']}.pth" for fold in manifest["folds"]}
    if not needed or ({*needed, *NEEDED_FILES} - manifest["files"].keys()):
        raise ValueError("files of the model are missing")


def _check_same_files(entries: list[zipfile.ZipInfo], files: Mapping[str, Any]) -> None:
    sizes = {entry.filename: entry.file_size for entry in entries if entry.filename != MANIFEST}
    for name in sorted(sizes.keys() ^ files.keys()):
        place = "archive" if name in sizes else "manifest"
        raise _refused(f"only the {place} has the file", name)
    for name, size in sizes.items():
        if size != files[name]["bytes"]:
            raise _refused("a file has another size than the manifest says", name)


def _copy(archive: zipfile.ZipFile, name: str, facts: Mapping[str, Any], target: IO[bytes]) -> None:
    """Copy a file of the archive, no more than the bytes that it should have, and compare hashes.

    Raises:
        DataError: They differ.
    """
    digest = hashlib.sha256()
    try:
        with archive.open(name) as file:
            for block in _blocks(file, facts["bytes"]):
                digest.update(block)
                target.write(block)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _refused("a file is damaged", name) from error
    if digest.hexdigest() != facts["sha256"]:
        raise _refused("a file is damaged or was changed: its SHA-256 is another", name)


def _blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Read one byte more than expected, if there is one: the hash is another then."""
    left = size + 1
    while left and (block := file.read(min(left, _BYTES_AT_ONCE))):
        left -= len(block)
        yield block


def _check_weights(name: str, size: int, file: IO[bytes], files: Mapping[str, Any]) -> None:
    """Load weights as the predictor does, with tensors and plain values only."""
    file.flush()
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as inner:  # PyTorch inflates whatever is compressed in there
            if sum(entry.file_size for entry in inner.infolist()) > size:
                raise _refused("weights are compressed, which PyTorch's never are", name)
        file.seek(0)
        with only_plain_values():
            content = torch.load(file, map_location="cpu", weights_only=True)
        frozen = name.startswith(FROZEN_WEIGHTS)
        note = None if frozen else content["network_weights"].get(FROZEN_WEIGHTS)
    except (*_UNREADABLE, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise _refused(
            "weights are damaged, or hold more than tensors and plain values, which may be code",
            name,
        ) from error
    if note is not None and note["file"] not in files:
        raise NotFoundError(
            f"the archive does not hold the frozen weights {note['file']}",
            where=name,
            mend="have it exported again",
        )


def _check_json(name: str, text: bytes) -> None:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _refused("a file is no JSON", name) from error
    if name == "plans.json":
        try:
            _check_plans(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise _refused("the plans are damaged", name) from error


def _check_plans(plans: Mapping[str, Any]) -> None:
    """Refuse plans that name classes of other packages: nnU-Net imports and calls whatever it is.

    Raises:
        DataError: They do.
    """
    for configuration in plans["configurations"].values():
        architecture = configuration.get("architecture", {})
        arguments = architecture.get("arch_kwargs", {})
        named = [architecture.get("network_class_name", _NETWORKS[0])]
        parts = [arguments.get(key) for key in architecture.get("_kw_requires_import", [])]
        foreign = [name for name in named if not name.startswith(_NETWORKS)]
        foreign += [name for name in parts if name and not name.startswith(_PARTS_OF_NETWORKS)]
        if foreign:
            raise _refused(
                f"its plans name code that is neither of this package nor of nnU-Net: {foreign[0]}",
                "plans.json",
            )


def _refused(what: str, name: str | None = None) -> DataError:
    return DataError(
        f"the archive is not installed: {what}",
        where=name,
        mend="have it exported or copied again, and use only models from people you trust",
    )
