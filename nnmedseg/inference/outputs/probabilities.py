"""Files of class probabilities: ``CASE_probabilities.npz``, which ensembles are made of."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.files import atomic_path
from nnmedseg.inference.inputs.geometry import Geometry

PROBABILITIES_ENDING = "_probabilities.npz"

ProbabilityType = Literal["float16", "uint8"]
PROBABILITY_TYPES: tuple[ProbabilityType, ...] = ("float16", "uint8")

_LEVELS = 255
"""uint8 holds probabilities in steps of 1/255."""


@dataclass(frozen=True)
class StoredProbabilities:
    """What a file of probabilities holds.

    Attributes:
        probabilities: ``(K, Z, H, W)``, float16 or float32, from 0 to 1, in the order of axes of
            the mask beside the file.
        labels: Name of each of the K classes or regions; empty in nnU-Net's own files, which name
            none.
        spacing: Distance of neighbouring voxels in mm, (z, y, x); ``None`` in nnU-Net's files.
        origin: Position of the first voxel in mm, (x, y, z), in LPS; ``None`` in nnU-Net's files.
        direction: The axes of the grid as columns of a 3 x 3 matrix, row by row, in LPS; ``None``
            in nnU-Net's files.
    """

    probabilities: npt.NDArray[np.floating]
    labels: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    direction: tuple[float, ...] | None = None


def write_probabilities(
    probabilities: npt.NDArray[np.floating],
    path: str | Path,
    *,
    labels: Sequence[str],
    geometry: Geometry,
    stored_as: ProbabilityType = "float16",
) -> None:
    """Write probabilities compressed, whole or not at all.

    Args:
        probabilities: ``(K, Z, H, W)``, from 0 to 1.
        path: Ends in ``.npz``.
        labels: Name of each of the K classes or regions.
        geometry: The grid of the voxels.
        stored_as: ``"float16"``, or ``"uint8"`` in steps of 1/255, which takes a fraction of that.
    """
    if stored_as == "uint8":
        stored: npt.NDArray[np.generic] = np.empty(probabilities.shape, np.uint8)
        for source, target in zip(probabilities, stored, strict=True):
            target[...] = np.rint(source.astype(np.float32) * _LEVELS)
    else:
        stored = probabilities.astype(np.float16, copy=False)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            probabilities=stored,
            labels=np.array(list(labels), np.str_),
            spacing=np.array(geometry.spacing[::-1]),
            origin=np.array(geometry.origin),
            direction=np.array(geometry.direction),
        )


def read_probabilities(path: str | Path) -> StoredProbabilities:
    """Read probabilities of this package, or nnU-Net's (``--save_probabilities``).

    Raises:
        NotFoundError: There is no such file.
        DataError: It is damaged, or holds no probabilities ``(K, Z, H, W)``.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(
            "there is no such file of probabilities",
            where=path,
            mend="predict with --probabilities, which writes it",
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"the file of probabilities is damaged or truncated ({error})",
            where=path,
            mend="predict again with --probabilities and --overwrite, or copy it again",
        ) from error
    stored = content.get("probabilities")
    if stored is None or stored.ndim != 4 or not _holds_fractions(stored):
        raise DataError(
            "the file holds no probabilities of classes, slices, rows and columns",
            where=path,
            mend="give files that were written with --probabilities",
        )
    return StoredProbabilities(
        _as_fractions(stored),
        tuple(str(name) for name in content.get("labels", ())),
        *(_numbers(content.get(name)) for name in ("spacing", "origin", "direction")),
    )


def _holds_fractions(stored: npt.NDArray[np.generic]) -> bool:
    return stored.dtype == np.uint8 or stored.dtype.kind == "f"


def _as_fractions(stored: npt.NDArray[np.generic]) -> npt.NDArray[np.floating]:
    if stored.dtype != np.uint8:
        return stored.astype(np.float16 if stored.dtype == np.float16 else np.float32, copy=False)
    fractions = np.empty(stored.shape, np.float16)
    for source, target in zip(stored, fractions, strict=True):
        np.divide(source, np.float32(_LEVELS), out=target, casting="same_kind")
    return fractions


def _numbers(values: npt.NDArray[np.floating] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values.tolist())
