"""Volumes: NIfTI, NRRD and MetaImage in, NIfTI out, on the grid that SimpleITK sees.

Damage is found here and not left to SimpleITK, which fills truncated NIfTI files with zeros and
returns wrong voxels for a damaged MetaImage.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from nnmedseg.data import VOLUME_ENDINGS
from nnmedseg.data._inflate import GZIP_SIGNATURE
from nnmedseg.data._metaimage import decode_metaimage, is_metaimage
from nnmedseg.data._nifti import decode_nifti, encode_nifti, is_nifti
from nnmedseg.data._nrrd import SIGNATURE as NRRD_SIGNATURE
from nnmedseg.data._nrrd import decode_nrrd
from nnmedseg.data._volume import LARGEST_VOLUME_VOXELS, Volume
from nnmedseg.errors import DataError, list_some
from nnmedseg.files import atomic_path

__all__ = [
    "LARGEST_VOLUME_VOXELS",
    "VOLUME_ENDINGS",
    "Volume",
    "decode_volume",
    "displacement",
    "geometry_difference",
    "non_finite_count",
    "read_channels",
    "read_label_values",
    "read_volume",
    "volume_ending",
    "write_nifti",
]

LARGEST_LABEL = 2**16 - 1
"""The largest label that nnU-Net can write."""
ROUNDING = 0.05
"""Displacement, in voxels, that rounded numbers in headers explain."""
LARGEST_LABEL_NOISE = 1e-3
"""How far a label may be from a whole number: what arithmetic in floating point leaves."""

OTHER_FILES = {
    b"\x89PNG": "PNG image",
    b"\xff\xd8\xff": "JPEG image",
    b"BM": "BMP image",
    b"II*\0": "TIFF image",
    b"MM\0*": "TIFF image",
    b"PK": "ZIP archive",
    b"\x89HDF": "HDF5 file",
    b"<": "web page",
    b"version https://git-lfs": "Git LFS pointer to a file that was not downloaded",
}
"""What else is found under a volume's name, by its first bytes."""


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
        z, y, x = channels[0].values.shape
        raise DataError(
            f"a volume of three dimensions is needed, this one has four: {x} x {y} x {z} x "
            f"{len(channels)}, or {len(channels)} channels",
            where=path,
            mend="give a file with one channel, or have the channels read as such",
        )
    return channels[0]


def read_channels(path: str | Path) -> list[Volume]:
    """Read a volume with one channel or, if it has four dimensions, with several.

    A single slice (two dimensions) is a volume with Z = 1 and, as it has no other, a spacing of
    1 mm along z.

    Raises:
        DataError: The file cannot be read or is damaged.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
    return decode_volume(content, path)


def decode_volume(content: bytes, path: str | Path) -> list[Volume]:
    """Decode the content of a file; otherwise as ``read_channels``.

    The first bytes decide which format it is, not the name.

    Args:
        content: The whole file. Voxels that its header says to be in another file are read there.
        path: For messages, and for files beside it.
    """
    if not content:
        raise DataError("the file is empty", where=path, mend="copy or download it again")
    if content.startswith(GZIP_SIGNATURE) or is_nifti(content):
        return decode_nifti(content, path)
    if content.startswith(NRRD_SIGNATURE):
        return decode_nrrd(content, path)
    if is_metaimage(content):
        return decode_metaimage(content, path)
    for signature, kind in OTHER_FILES.items():
        if content.startswith(signature):
            what = f"this is no volume but a {kind}"
            break
    else:
        what = "this is not a NIfTI, NRRD or MetaImage file"
    raise DataError(
        what,
        where=path,
        mend="download it again if it should be a volume, or convert it to .nii.gz",
    )


def geometry_difference(a: Volume, b: Volume) -> str | None:
    """Say in one sentence how two grids differ, with nnU-Net's tolerances.

    Returns:
        The first difference of sizes, spacing, origin and direction, or ``None``.
    """
    if a.values.shape != b.values.shape:
        sizes = (" x ".join(map(str, volume.values.shape[::-1])) for volume in (a, b))
        return "the sizes differ: {} and {} voxels (x, y, z)".format(*sizes)
    for name, first, second in (
        ("spacing in mm (x, y, z)", a.spacing[::-1], b.spacing[::-1]),
        ("origin in mm (x, y, z)", a.origin, b.origin),
        ("direction of the axes", a.direction, b.direction),
    ):
        if not np.allclose(first, second):
            texts = (
                "(" + ", ".join(f"{value:g}" for value in side) + ")" for side in (first, second)
            )
            return "the {} differs: {} and {}".format(name, *texts)
    return None


def displacement(a: Volume, b: Volume) -> float:
    """Return how far two grids of one size put the same voxel apart, at most.

    Returns:
        The largest distance at a corner of the grid, in sides of the smallest voxel.
    """
    last = np.array(a.values.shape[::-1]) - 1.0
    corners = np.array(list(product(*((0.0, end) for end in last))))
    first, second = (
        corners * volume.spacing[::-1] @ np.reshape(volume.direction, (3, 3)).T + volume.origin
        for volume in (a, b)
    )
    return float(np.linalg.norm(first - second, axis=1).max() / min(a.spacing))


def non_finite_count(values: np.ndarray) -> int:
    """Count values that are NaN or infinite."""
    if values.dtype.kind != "f":
        return 0
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def write_nifti(volume: Volume, path: str | Path) -> None:
    """Write a compressed NIfTI file (``.nii.gz``), whole or not at all.

    SimpleITK reads the same values from it, and the same grid to the 32 bits of NIfTI's floats.
    Booleans become uint8.

    Raises:
        ValueError: NIfTI has no such type, or the values are not (Z, Y, X).
    """
    content = encode_nifti(volume)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_label_values(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Return labels as whole numbers of the smallest unsigned type.

    Args:
        values: Numbers or booleans of any shape. What is within 0.001 of a whole number is rounded.
        path: For messages.

    Raises:
        DataError: There are fractional, negative, non-finite or absurdly large values.
    """
    if values.dtype == np.float16:
        values = values.astype(np.float32)  # holds no number as large as LARGEST_LABEL
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            labels = np.rint(values)
            right = np.abs(values - labels) <= LARGEST_LABEL_NOISE
    elif values.dtype.kind in "biu":
        labels, right = values, np.ones((), np.bool_)
    else:
        raise DataError(f"labels are numbers, these are {values.dtype}", where=path)
    right = right & (labels >= 0) & (labels <= LARGEST_LABEL)
    if not right.all():
        wrong = values[~right]
        present = [f"{value:g}" for value in np.unique(wrong)]
        raise DataError(
            f"{wrong.size:,} of {values.size:,} values are no labels (whole numbers from 0 to "
            f"{LARGEST_LABEL}): {list_some(present, 5)}",
            where=path,
            mend="check that it is the label map; resample label maps with nearest neighbour",
        )
    top = int(labels.max(initial=0))
    return labels.astype(np.uint8 if top < 2**8 else np.uint16, copy=False)
