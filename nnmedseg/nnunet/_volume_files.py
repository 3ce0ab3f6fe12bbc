"""Volumes as nnU-Net's SimpleITK reader returns them, decoded by our own faster NIfTI reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnmedseg.data.simple_itk import Header, read_header
from nnmedseg.data.volumes import read_channels, read_volume
from nnmedseg.nnunet.one_at_a_time import OneAtATime

NIFTI_ENDINGS = (".nii", ".nii.gz")
TYPES = {
    SimpleITK.sitkUInt8: np.uint8,
    SimpleITK.sitkInt8: np.int8,
    SimpleITK.sitkUInt16: np.uint16,
    SimpleITK.sitkInt16: np.int16,
    SimpleITK.sitkInt32: np.int32,
    SimpleITK.sitkFloat32: np.float32,
    SimpleITK.sitkFloat64: np.float64,
}
"""SimpleITK's types of voxels."""
NO_SCALE = {("0", "0"), ("1", "0")}
"""Slope and intercept of files whose numbers are the values: nothing can be rounded differently."""


def read_images(
    reader: BaseReaderWriter, files: Sequence[str]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return channels (C, Z, Y, X) float32 and properties, as ``reader.read_images``.

    Raises:
        DataError: A file is damaged.
    """
    headers = [_header(reader, path) for path in files]
    volumes = _volumes(headers, files)
    if volumes is None or headers[0] is None:
        _refuse_damaged(reader, files)
        return OneAtATime(reader).read_images(files)
    data = np.empty((len(volumes), *volumes[0].shape), np.float32)
    for channel, volume in zip(data, volumes, strict=True):
        channel[...] = volume
    return data, _properties(headers[0])


def read_labels(reader: BaseReaderWriter, path: str) -> np.ndarray:
    """Return labels (1, Z, Y, X) as ``reader.read_seg``, but as the integers that they are.

    Raises:
        DataError: The file is damaged.
    """
    volumes = _volumes([_header(reader, path)], [path])
    if volumes is not None:
        return volumes[0][None]
    return OneAtATime(reader).read_seg(path)[0]


def _refuse_damaged(reader: BaseReaderWriter, files: Sequence[str]) -> None:
    """Read NIfTI files for nothing but their damage: SimpleITK fills truncated ones with zeros."""
    for path in files:
        if isinstance(reader, SimpleITKIO) and Path(path).name.endswith(NIFTI_ENDINGS):
            read_channels(path)


def _header(reader: BaseReaderWriter, path: str) -> Header | None:
    """Return what SimpleITK says of a plain NIfTI file with three dimensions; else ``None``."""
    if type(reader) is not SimpleITKIO or not Path(path).name.endswith(NIFTI_ENDINGS):
        return None
    header = read_header(path)
    scale = (header.metadata["scl_slope"], header.metadata["scl_inter"])
    plain = len(header.size) == 3 and header.pixel_type in TYPES and scale in NO_SCALE
    return header if plain else None


def _volumes(headers: Sequence[Header | None], files: Sequence[str]) -> list[np.ndarray] | None:
    """Return the voxels of files on one grid; ``None`` if nnU-Net's reader must look at them."""
    plain = [header for header in headers if header is not None]
    if len(plain) < len(files) or any(_properties(one) != _properties(plain[0]) for one in plain):
        return None
    volumes = [read_volume(path).values for path in files]
    expected = [TYPES[header.pixel_type] for header in plain]
    alike = all(
        volume.shape == volumes[0].shape and volume.dtype == dtype
        for volume, dtype in zip(volumes, expected, strict=True)
    )
    return volumes if alike else None


def _properties(header: Header) -> dict[str, Any]:
    """Return what nnU-Net remembers of a file's grid."""
    return {
        "sitk_stuff": {
            "spacing": header.spacing,
            "origin": header.origin,
            "direction": header.direction,
        },
        "spacing": list(np.abs(list(header.spacing)[::-1])),
    }
