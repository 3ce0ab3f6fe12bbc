"""Volumes: NIfTI, NRRD and MetaImage in, NIfTI out, on the grid that SimpleITK would see."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK

from nnmedseg.data import VOLUME_ENDINGS
from nnmedseg.data._volume import LARGEST_VOLUME_VOXELS, Volume
from nnmedseg.errors import DataError, list_some
from nnmedseg.files import atomic_path

__all__ = [
    "LARGEST_VOLUME_VOXELS",
    "VOLUME_ENDINGS",
    "Volume",
    "decode_volume",
    "geometry_difference",
    "non_finite_count",
    "read_channels",
    "read_label_values",
    "read_volume",
    "volume_ending",
    "write_nifti",
]

LARGEST_LABEL_NOISE = 1e-3
"""How far a label may be from a whole number: what arithmetic in floating point leaves."""


def volume_ending(path: str | Path) -> str | None:
    """Return the ending that makes a file a volume, in lower case, or ``None`` for other files."""
    name = Path(path).name.lower()
    return next((ending for ending in VOLUME_ENDINGS if name.endswith(ending)), None)


def read_volume(path: str | Path) -> Volume:
    """Read a volume of one channel.

    Raises:
        DataError: The file cannot be read, is damaged, or holds more than one channel.
    """
    channels = read_channels(path)
    if len(channels) > 1:
        raise DataError(f"the file holds {len(channels)} channels, one is needed", where=path)
    return channels[0]


def read_channels(path: str | Path) -> list[Volume]:
    """Read a volume with one channel or, if it has four dimensions, with several.

    Raises:
        DataError: The file cannot be read or is damaged.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError(f"the volume cannot be read ({error})", where=path) from error
    values = SimpleITK.GetArrayFromImage(image)
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:3, :3]
    x, y, z = image.GetSpacing()[:3]
    origin = image.GetOrigin()[:3]
    return [
        Volume(channel, (z, y, x), origin, tuple(direction.ravel().tolist()))
        for channel in (values if values.ndim == 4 else values[None])
    ]


def decode_volume(content: bytes, path: str | Path) -> list[Volume]:
    """Decode the content of a file; otherwise as ``read_channels``. ``path`` is for messages."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        copy.write_bytes(content)
        return read_channels(copy)


def geometry_difference(a: Volume, b: Volume) -> str | None:
    """Say in one sentence how two grids differ, with nnU-Net's tolerances, or return ``None``."""
    if a.values.shape != b.values.shape:
        return f"the sizes differ: {a.values.shape} and {b.values.shape} (z, y, x)"
    for name in ("spacing", "origin", "direction"):
        first, second = getattr(a, name), getattr(b, name)
        if not np.allclose(first, second):
            return f"the {name} differs: {first} and {second}"
    return None


def non_finite_count(values: np.ndarray) -> int:
    """Count values that are NaN or infinite."""
    if values.dtype.kind != "f":
        return 0
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def write_nifti(volume: Volume, path: str | Path) -> None:
    """Write a compressed NIfTI file (``.nii.gz``), whole or not at all."""
    image = SimpleITK.GetImageFromArray(volume.values)
    image.SetSpacing(volume.spacing[::-1])
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    with atomic_path(path) as temporary:
        SimpleITK.WriteImage(image, str(temporary), useCompression=True)


def read_label_values(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Return whole-number labels, of the smallest unsigned type; ``path`` is for messages.

    Raises:
        DataError: There are fractional, negative or non-finite values.
    """
    labels = np.rint(values)
    wrong = values[~(np.abs(values - labels) <= LARGEST_LABEL_NOISE) | (labels < 0)]
    if wrong.size:
        raise DataError(
            f"{wrong.size} values are no labels: {list_some(np.unique(wrong).tolist())}", where=path
        )
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
