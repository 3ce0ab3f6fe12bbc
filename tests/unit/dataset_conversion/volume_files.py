"""Small volumes with known values, and independent readings of what became of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from scipy.ndimage import gaussian_filter

SHAPE = (8, 14, 12)
SPACING = (2.5, 0.75, 0.5)
ORIGIN = (11.0, -7.5, 30.25)
TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8)


def intensities(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Smooth random numbers that no other seed resembles, int16."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return (gaussian_filter(noise, 1.5) * 2000).astype(np.int16)


def boxes(seed: int, labels: int = 1, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """One box for each label, uint8."""
    values = np.zeros(shape, np.uint8)
    for label in range(1, labels + 1):
        first = (seed + label) % (shape[0] - 1)
        values[first, label % shape[1], (seed * label) % 5 : 6 + seed % 3] = label
    return values


def write(path: Path, values: np.ndarray, **grid: tuple[float, ...]) -> Path:
    """Write (Z, Y, X) with SimpleITK, in the format of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(grid.get("spacing", SPACING)[::-1])
    image.SetOrigin(grid.get("origin", ORIGIN))
    image.SetDirection(grid.get("direction", TILTED))
    SimpleITK.WriteImage(image, str(path), useCompression=path.name.endswith((".gz", ".nrrd")))
    return path


def write_with_nibabel(path: Path, values: np.ndarray, spacing=(0.5, 0.75, 2.5)) -> Path:
    """Write (X, Y, Z) or (X, Y, Z, C) with nibabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)
    return path


def read(path: Path) -> np.ndarray:
    """Read (Z, Y, X) with nibabel."""
    return np.asarray(nibabel.load(path).dataobj).T


def grid_of(path: Path) -> np.ndarray:
    """Read spacing, origin and direction with SimpleITK, as one array."""
    image = SimpleITK.ReadImage(str(path))
    return np.array([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()])


def conversion_of(made: Path):
    """Read ``conversion.json``."""
    return json.loads((made / "conversion.json").read_text("utf-8"))


def left_out_of(made: Path) -> dict[str, str]:
    """Read the files that were left out, with the reasons."""
    return {entry["file"]: entry["reason"] for entry in conversion_of(made)["skipped"]}


def description_of(made: Path):
    """Read ``dataset.json``."""
    return json.loads((made / "dataset.json").read_text("utf-8"))
