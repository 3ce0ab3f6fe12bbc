"""What a volume is, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_VOLUME_VOXELS = 2**31
"""Voxels of the largest volume that is read, 1290 along each side: 4 GiB of 16-bit CT."""

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
