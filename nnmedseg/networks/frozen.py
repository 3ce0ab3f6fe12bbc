"""Weights that training never changes, kept once beside the folds instead of in each checkpoint.

A network names its frozen parts (`SegmentationNetwork.frozen_parts`). A checkpoint holds the rest
of the weights and a note: name, size and hash of the file that holds the frozen ones. The file is
named by its content, so folds that start from the same weights share one and others do not clash,
and it lies in the model folder, so a copy of that folder is whole.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnmedseg.errors import NotFoundError, WeightsError

FROZEN_WEIGHTS = "frozen_weights"
"""The note's key among a checkpoint's weights."""

WEIGHTS_VARIABLE = "NNMEDSEG_WEIGHTS"
"""The environment variable of a folder in which files of frozen weights are looked for too."""

_RESULTS_VARIABLE = "nnUNet_results"
_DIGITS_IN_NAME = 16
_folders: ContextVar[tuple[Path, ...]] = ContextVar("folders of frozen weights", default=())


def describe_frozen(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what a checkpoint notes of weights that lie elsewhere: ``file, bytes, sha256``.

    The hash is that of names, types, shapes and values, whatever writes them in which layout.
    """
    digest = _hash(weights)
    return {
        "file": f"frozen_weights_{digest[:_DIGITS_IN_NAME]}.pth",
        "bytes": sum(value.numel() * value.element_size() for value in weights.values()),
        "sha256": digest,
    }


def _hash(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def frozen_weights_in(folder: str | Path) -> Iterator[None]:
    """Look for files of frozen weights in a model folder first, while checkpoints of it load."""
    token = _folders.set((Path(folder), *_folders.get()))
    try:
        yield
    finally:
        _folders.reset(token)


def read_frozen(note: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that a note is about, on the CPU.

    They are looked for in the folders of `frozen_weights_in`, in that of ``NNMEDSEG_WEIGHTS``, and
    in all model folders of ``nnUNet_results``, where nnU-Net's own commands look for models.

    Raises:
        NotFoundError: The file lies in none of them.
        WeightsError: It is damaged, or holds other weights.
    """
    path = _find(str(note["file"]))
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise _damaged(path) from error
    if not isinstance(weights, dict) or _hash(weights) != note["sha256"]:
        raise _damaged(path)
    return weights


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        "the frozen weights are damaged, or not those that the checkpoint was trained with",
        where=path,
        mend="copy the file again from where the model was trained",
    )


def _find(name: str) -> Path:
    folders = list(_folders.get())
    if os.environ.get(WEIGHTS_VARIABLE):
        folders.append(Path(os.environ[WEIGHTS_VARIABLE]))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    results = os.environ.get(_RESULTS_VARIABLE)
    found = next(Path(results).glob(f"*/*/{name}"), None) if results else None
    if found is None:
        raise NotFoundError(
            "the checkpoint was written without the weights that training left frozen, and the "
            "file that holds them is missing",
            where=name,
            mend=f"copy it from the model folder of the training into this one; nnU-Net's own "
            f"commands find it under {_RESULTS_VARIABLE}, or in the folder that {WEIGHTS_VARIABLE} "
            "names",
        )
    return found
