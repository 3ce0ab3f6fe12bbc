"""Single slices and stacks of them: arrays of NumPy and HDF5 files, and DICOM."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import SimpleITK

from nnmedseg.errors import DataError, list_some


@dataclass(frozen=True)
class DicomSlice:
    """One slice of a DICOM series.

    Attributes:
        values: float32, (H, W), in Hounsfield units if it is CT; larger is brighter.
        spacing: Distance of neighbouring pixels in mm, (y, x).
        position: Position along the slices' normal in mm, or ``None`` if the file has none.
        instance: Number of the slice in its series, or ``None`` if the file has none.
        photometric: DICOM's photometric interpretation, as stored.
    """

    values: np.ndarray
    spacing: tuple[float, float]
    position: float | None
    instance: int | None
    photometric: str


def read_array(content: bytes | str | Path, key: str, path: str | Path) -> np.ndarray:
    """Read one array of a ``.npz`` or HDF5 file.

    Args:
        content: The file's bytes, or where it is.
        key: Name of the array in the file.
        path: For messages.

    Raises:
        DataError: The file is damaged or has no such array of numbers.
    """
    with io.BytesIO(content) if isinstance(content, bytes) else Path(content).open("rb") as source:
        if source.read(2) == b"PK":
            source.seek(0)
            with np.load(source, allow_pickle=False) as arrays:
                if key not in arrays:
                    raise _no_key(key, list(arrays), path)
                return np.asarray(arrays[key])
        source.seek(0)
        with h5py.File(source) as file:
            if key not in file:
                raise _no_key(key, list(file), path)
            return np.asarray(file[key])


def _no_key(key: str, present: list[str], path: str | Path) -> DataError:
    return DataError(f"there is no array {key!r}, only {list_some(present)}", where=path)


def read_dicom_slice(path: str | Path) -> DicomSlice:
    """Read a DICOM file that holds one grey slice.

    Raises:
        DataError: The file cannot be read, is damaged or holds no such slice.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise DataError(f"the file cannot be read ({error})", where=path) from error
    values = SimpleITK.GetArrayFromImage(image)[0].astype(np.float32)
    x, y, _ = image.GetSpacing()
    number = image.GetMetaData("0020|0013") if image.HasMetaDataKey("0020|0013") else ""
    return DicomSlice(
        values,
        (y, x),
        image.GetOrigin()[2],
        int(number) if number.strip() else None,
        image.GetMetaData("0028|0004").strip(),
    )
