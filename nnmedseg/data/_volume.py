"""What a volume is, whatever file it came from, and what every format must refuse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnmedseg.errors import DataError

LARGEST_VOLUME_VOXELS = 2**31
"""Voxels of the largest volume that is read, 1290 along each side: 4 GiB of 16-bit CT."""

LARGEST_PADDING = 2**16
"""Bytes that may follow the voxels: some programs round the size of files up."""

LARGEST_SHEAR = 1e-4
"""How far the product of two axes' directions may be from that of right angles, as in ITK."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Volume:
    """One channel of numbers on a regular grid in space, in ITK's convention.

    Attributes:
        values: (Z, Y, X), numeric; it may be a read-only view of the file's bytes.
        spacing: Distance of neighbouring voxels in mm, (z, y, x).
        origin: Position of the first voxel in mm, (x, y, z), where x grows to the patient's left,
            y to the back and z to the head (LPS).
        direction: The axes of the grid as the columns of a 3 x 3 matrix for (x, y, z), row by row.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY


class Grid(NamedTuple):
    """Where voxels lie, as a file says it, in ITK's space.

    Attributes:
        spacing: Distance of neighbouring voxels in mm, (x, y, z).
        origin: Position of the first voxel in mm, (x, y, z).
        direction: The axes of the grid as columns, (3, 3).
    """

    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray


def volumes_on_grid(channels: np.ndarray, grid: Grid, path: str | Path) -> list[Volume]:
    """Return one volume for each channel (C, Z, Y, X), all on the same grid.

    Raises:
        DataError: The spacing is not positive, or the axes are not at right angles.
    """
    x, y, z = grid.spacing.tolist()
    if not (np.isfinite(grid.spacing).all() and grid.spacing.min() > 0):
        raise DataError(
            f"the spacing must be positive, but the header says {x:g} x {y:g} x {z:g} mm (x, y, z)",
            where=path,
            mend="correct the spacing in the header, or export the volume again",
        )
    if not (np.isfinite(grid.origin).all() and np.isfinite(grid.direction).all()):
        raise DataError(
            "the header's origin or direction is not a number",
            where=path,
            mend="correct the header, or export the volume again",
        )
    if np.abs(grid.direction @ grid.direction.T - np.eye(3)).max() > LARGEST_SHEAR:
        raise sheared(path)
    origin, direction = tuple(grid.origin.tolist()), tuple(grid.direction.ravel().tolist())
    return [Volume(channel, (z, y, x), origin, direction) for channel in channels]


def native(values: np.ndarray) -> np.ndarray:
    """Return values in this machine's byte order, at addresses that every library accepts."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.require(values, requirements=["ALIGNED"])


def refuse_absurd_sizes(sizes: Sequence[int], path: str | Path) -> None:
    """Raise ``DataError`` for sizes below one, and for more voxels than are read."""
    text = " x ".join(str(size) for size in sizes)
    if not sizes or min(sizes) < 1:
        raise DataError(
            f"the volume has no voxels: the header says {text or 'nothing about its size'}",
            where=path,
            mend="copy or download it again",
        )
    if math.prod(sizes) > LARGEST_VOLUME_VOXELS:
        raise DataError(
            f"the header says {text} voxels; at most {LARGEST_VOLUME_VOXELS:,} are read",
            where=path,
            mend="cut it into parts, or download it again if it is not that large",
        )


def check_length(stored: int, needed: int, path: str | Path) -> None:
    """Raise ``DataError`` unless ``stored`` bytes are the ``needed`` ones and little more."""
    if stored < needed:
        raise DataError(
            f"the file is truncated: its header needs {needed:,} bytes, there are {stored:,}",
            where=path,
            mend="copy or download it again",
        )
    if stored > needed + LARGEST_PADDING:
        raise too_long(needed, path)


def too_long(needed: int, path: str | Path) -> DataError:
    """Return the error for a file with more voxels than its header says."""
    return DataError(
        f"the file goes on after the {needed:,} bytes that its header needs",
        where=path,
        mend="copy or download it again; header and voxels are not of the same volume",
    )


def damaged(reason: object, path: str | Path) -> DataError:
    """Return the error for a file whose content contradicts its format."""
    return DataError(
        f"the volume is damaged or truncated ({reason})",
        where=path,
        mend="copy or download it again",
    )


def sheared(path: str | Path) -> DataError:
    """Return the error for a grid that SimpleITK and nnU-Net cannot represent."""
    return DataError(
        "the axes of the volume are not at right angles (its affine is sheared), which SimpleITK "
        "and nnU-Net refuse",
        where=path,
        mend="resample it onto a grid with right angles, or correct the affine in its header",
    )
