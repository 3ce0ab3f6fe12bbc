"""Volumes on oblique grids, and DICOM series of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

SPACING = (0.7, 1.25, 3.1)
ORIGIN = (-101.3, 55.125, 7.9)


def rotation() -> np.ndarray:
    """Return a rotation by no simple angle, (3, 3)."""
    directions, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return directions * np.sign(np.linalg.det(directions))


def oblique_image(shape: tuple[int, ...] = (6, 9, 11)) -> SimpleITK.Image:
    """Return a volume of whole numbers, (z, y, x)."""
    values = np.random.default_rng(0).integers(-900, 900, shape).astype(np.int16)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(rotation().ravel().tolist())
    return image


def write_slice(image: SimpleITK.Image, index: int, path: Path, **changes: str) -> Path:
    """Write a slice of a volume; ``changes`` are elements by their group and number."""
    one = image[:, :, index]
    matrix = np.reshape(image.GetDirection(), (3, 3))
    corner = image.TransformIndexToPhysicalPoint((0, 0, index))
    elements = {
        "0008|0060": "CT",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0018|0050": "3.1",
        "0020|000e": "1.2.3",
        "0020|0011": "1",
        "0020|0032": "\\".join(f"{value:.10g}" for value in corner),
        "0020|0037": "\\".join(f"{value:.10g}" for value in matrix.T[:2].ravel()),
    }
    for key, value in {**elements, **changes}.items():
        one.SetMetaData(key, value)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(one)
    return path


def write_series(image: SimpleITK.Image, folder: Path, **changes: str) -> list[Path]:
    """Write slices whose names are in another order than their places."""
    folder.mkdir(exist_ok=True)
    return [
        write_slice(image, index, folder / f"{7 * index % 10}_{index}.dcm", **changes)
        for index in range(image.GetDepth())
    ]
