"""Volumes, checked for what nnU-Net's SimpleITKIO, NibabelIO and Tiff3DIO make of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import tifffile

from nnmedseg.data.integrity._contents import Contents, FileFormat, Finding
from nnmedseg.data.integrity._report import UnusableFileError
from nnmedseg.data.volumes import (
    LARGEST_VOLUME_VOXELS,
    ROUNDING,
    Volume,
    displacement,
    geometry_difference,
    read_channels,
)
from nnmedseg.errors import DataError
from nnmedseg.files import read_json

FIRST_BYTES = {
    ".nii.gz": (b"\x1f\x8b",),
    ".nii": (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"),
    ".nrrd": (b"NRRD",),
    ".tif": (b"II", b"MM"),
    ".tiff": (b"II", b"MM"),
}
"""How files of these endings begin; those of NIfTI are the size of its header."""


def read_volume(path: Path) -> Contents:
    """Read a volume of one channel.

    Raises:
        UnusableFileError: It cannot be decoded, or has four dimensions.
    """
    _check_first_bytes(path)
    try:
        channels = read_channels(path)
    except DataError as error:
        raise UnusableFileError("damaged", error.what) from error
    if len(channels) != 1:
        what = (
            f"the volume has four dimensions, or {len(channels)} channels: save each of them as a "
            "file of its own (_0000, _0001, ...), and a label with three dimensions"
        )
        raise UnusableFileError("dimensions", what)
    return _contents(channels[0])


def read_nifti(path: Path) -> Contents:
    """Read a volume as nnU-Net does through nibabel, for which it needs three dimensions.

    Raises:
        UnusableFileError: It cannot be decoded, or has another number of dimensions.
    """
    contents = read_volume(path)
    try:
        shape = nibabel.load(path).header.get_data_shape()  # type: ignore[attr-defined]
    except Exception as error:  # of many kinds for damaged files
        raise UnusableFileError("wrong-format", f"nibabel cannot read it: {error}") from error
    if len(shape) != 3:
        what = f"nnU-Net's NibabelIO reads three dimensions, this file has {len(shape)}: {shape}"
        raise UnusableFileError("dimensions", what)
    return contents


def read_stack(path: Path) -> Contents:
    """Read a TIFF file of slices; its spacing is in a JSON file beside it.

    Raises:
        UnusableFileError: It cannot be decoded, or has another number of dimensions.
    """
    _check_first_bytes(path)
    content = path.read_bytes()
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            shape = tiff.series[0].shape
            if len(shape) != 3:
                what = f"nnU-Net's Tiff3DIO reads three dimensions, this file has {len(shape)}"
                raise UnusableFileError("dimensions", what)
            if np.prod(shape, dtype=np.float64) > LARGEST_VOLUME_VOXELS:
                raise UnusableFileError("absurd-size", f"the header says {shape} voxels")
            values = tiff.asarray()
    except UnusableFileError:
        raise
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise UnusableFileError("damaged", f"the file is damaged or truncated ({error})") from error
    return _contents(Volume(values, _spacing_beside(path)))


def is_stack(path: Path) -> bool:
    """Return whether nnU-Net takes a TIFF file for a volume: no RGB, and more than one slice."""
    try:
        with tifffile.TiffFile(path) as tiff:
            shape = tiff.series[0].shape
    except (OSError, ValueError, IndexError):
        return False
    return len(shape) == 3 and shape[-1] not in (3, 4)


def difference(first: Volume, other: Volume) -> Finding | None:
    """Say how two grids differ."""
    what = geometry_difference(first, other)
    if what is None:
        return None
    return _kind_of_difference(first, other), f"of the image and this file, {what}"


def _kind_of_difference(first: Volume, other: Volume) -> str:
    if first.values.shape != other.values.shape:
        return "size"
    # nnU-Net refuses other spacings and only warns of other positions.
    if np.allclose(first.spacing, other.spacing) and displacement(first, other) <= ROUNDING:
        return "geometry-rounding"
    return "geometry"


def _contents(volume: Volume) -> Contents:
    """Return the values, and a grid that does not keep them in memory."""
    without_values = np.broadcast_to(np.uint8(0), volume.values.shape)
    return Contents(volume.values, replace(volume, values=without_values))


def _check_first_bytes(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UnusableFileError("damaged", f"the file cannot be read: {error.strerror}") from error
    if not start:
        raise UnusableFileError("empty", "the file is empty")
    name = path.name.lower()
    for ending, starts in FIRST_BYTES.items():
        if name.endswith(ending) and not start.startswith(starts):
            what = f"the content is not what the ending {ending} promises: convert it"
            raise UnusableFileError("wrong-format", what)


def _spacing_beside(path: Path) -> tuple[float, float, float]:
    """Return the spacing (z, y, x) in the JSON file of a case, and 1 where there is none."""
    stem = path.name[: -len(path.suffix)]
    is_image = path.parent.name.startswith("images")
    beside = path.with_name(f"{stem[:-5] if is_image else stem}.json")
    if not beside.is_file():
        return 1.0, 1.0, 1.0
    try:
        z, y, x = (float(value) for value in read_json(beside)["spacing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{beside.name} beside it holds no spacing of three numbers ({error})"
        raise UnusableFileError("geometry", what) from error
    return z, y, x


VOLUMES = FileFormat(read_volume, read_volume, difference)
NIFTI_VOLUMES = FileFormat(read_nifti, read_nifti, difference)
STACKS = FileFormat(read_stack, read_stack, difference)
