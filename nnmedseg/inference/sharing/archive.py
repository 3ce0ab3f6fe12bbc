"""A trained model as one ZIP file: what prediction needs of it, and a manifest to check it by."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nnmedseg.errors import NotFoundError
from nnmedseg.files import atomic_path, read_json
from nnmedseg.inference.postprocessing.rules import POSTPROCESSING_FILE
from nnmedseg.inference.sharing.private_paths import without_private_paths
from nnmedseg.inference.sharing.weights_licence import licence_of_weights
from nnmedseg.inference.trained_folds import choose_folds, split_of
from nnmedseg.networks.frozen import FROZEN_WEIGHTS
from nnmedseg.training.checkpoints import read_checkpoint
from nnmedseg.training.run_record import PACKAGES
from nnmedseg.training.settings import RUN_FILE

MANIFEST = "manifest.json"
FORMAT = 1
NEEDED_FILES = ("plans.json", "dataset.json")
_MORE_FILES = ("dataset_fingerprint.json", POSTPROCESSING_FILE, "import.json")
_FILES_OF_A_FOLD = (RUN_FILE, "validation/summary.json")
_FOR_PREDICTION = ("network_weights", "trainer_name", "inference_allowed_mirroring_axes")
_OF_ONE_MACHINE = ("command_line", "events")
_BYTES_AT_ONCE = 1 << 20
_TIME = (1980, 1, 1, 0, 0, 0)
"""Of all files in an archive, so that it depends on the model alone."""


def write_archive(
    model: str | Path,
    target: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
) -> dict[str, Any]:
    """Write a model folder as an archive for :func:`nnmedseg.install`.

    It holds plans, data set description and fingerprint, what post-processing was found to help,
    and of each fold the weights without the optimiser's state, how it was trained and how it
    validated. Of paths of this machine only the last part is left.

    Args:
        model: The model folder.
        target: The file to write.
        folds: Folds to take (default: all that are trained).
        checkpoint: ``"final"`` or ``"best"``.

    Returns:
        The manifest.

    Raises:
        NotFoundError: The folder is no model folder, or something that prediction needs is missing.
        WeightsError: A checkpoint is damaged.
    """
    model = Path(model)
    checkpoint_name = f"checkpoint_{checkpoint}.pth"
    chosen = choose_folds(model, folds, checkpoint_name)
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        writer = _Writer(archive)
        for name in (*NEEDED_FILES, *_MORE_FILES):
            if (model / name).is_file():
                writer.add_json(name, read_json(model / name))
            elif name in NEEDED_FILES:
                raise NotFoundError(f"the model has no {name}", where=model, mend="copy it again")
        for fold in chosen:
            folder = f"fold_{fold}"
            stripped = for_prediction(read_checkpoint(model / folder / checkpoint_name))
            writer.add(f"{folder}/{checkpoint_name}", _saved(stripped))
            writer.add_frozen(model, stripped["network_weights"].get(FROZEN_WEIGHTS))
            for name in _FILES_OF_A_FOLD:
                if (model / folder / name).is_file():
                    writer.add_json(f"{folder}/{name}", read_json(model / folder / name))
        manifest = {
            **_identity(model, chosen, checkpoint, stripped),
            "versions": package_versions(),
            "files": writer.files,
        }
        writer.add_json(MANIFEST, manifest)
    return manifest


def for_prediction(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what nnU-Net's predictor and ours read of a checkpoint."""
    needed = {name: checkpoint[name] for name in _FOR_PREDICTION if name in checkpoint}
    return {**needed, "init_args": {"configuration": checkpoint["init_args"]["configuration"]}}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a network computes."""
    return dict(_installed())


def _installed() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _identity(
    model: Path, folds: Sequence[str], checkpoint: str, content: Mapping[str, Any]
) -> dict[str, Any]:
    plans = read_json(model / "plans.json")
    trainer, configuration = content["trainer_name"], content["init_args"]["configuration"]
    return {
        "format": FORMAT,
        "name": f"{trainer}__{plans['plans_name']}__{configuration}",
        "dataset": plans["dataset_name"],
        "trainer": trainer,
        "folds": list(folds),
        "checkpoint": checkpoint,
        "split_sha256": split_of(model, folds),
        "weights_licence": licence_of_weights(plans, configuration),
    }


def _saved(content: Mapping[str, Any]) -> BinaryIO:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    buffer.seek(0)
    return buffer


class _Writer:
    """Adds files to an archive, and remembers their sizes and hashes.

    They are stored as they are: weights hardly become smaller, and no size can then be a lie.
    """

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, content: BinaryIO) -> None:
        """Add a file."""
        digest, size = hashlib.sha256(), 0
        entry = zipfile.ZipInfo(name, _TIME)
        with self._archive.open(entry, "w", force_zip64=True) as file:
            while block := content.read(_BYTES_AT_ONCE):
                digest.update(block)
                size += file.write(block)
        self.files[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def add_json(self, name: str, content: Any) -> None:
        """Add a JSON file without what belongs to this machine."""
        if name.endswith(RUN_FILE):
            content = {key: content[key] for key in content if key not in _OF_ONE_MACHINE}
        text = json.dumps(without_private_paths(content), indent=2, ensure_ascii=False)
        self.add(name, io.BytesIO(text.encode()))

    def add_frozen(self, model: Path, note: Mapping[str, Any] | None) -> None:
        """Add the weights that a checkpoint leaves to a file beside the folds, once."""
        if note is None or note["file"] in self.files:
            return
        path = model / note["file"]
        if not path.is_file():
            raise NotFoundError(
                "the model's frozen weights are missing", where=path, mend="copy the model again"
            )
        with path.open("rb") as file:
            self.add(note["file"], file)
