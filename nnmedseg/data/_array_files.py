"""Arrays of numbers in ``.npz`` and HDF5 files, their claims checked before they are believed."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from nnmedseg.data._inflate import LARGEST_DEFLATE_RATIO
from nnmedseg.data._volume import LARGEST_VOLUME_VOXELS
from nnmedseg.errors import DataError, list_some

ZIP_SIGNATURE = b"PK"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
NUMBERS = "biuf"
"""The kinds of dtypes that are read: booleans, integers and floats."""

# Chunks that were never written read as zeros and take no space, so that a small HDF5 file can
# claim any size. Up to this size it does not matter.
HARMLESS_BYTES = 2**26


def read_array(content: bytes | str | Path, key: str, path: str | Path) -> np.ndarray:
    """Read one array of a ``.npz`` or HDF5 file; the first bytes decide which it is.

    Args:
        content: The file's bytes, or where it is.
        key: Name of the array in the file.
        path: For messages.

    Returns:
        The array as stored, of any shape; booleans, integers or floats.

    Raises:
        DataError: The file is damaged, or has no such array of numbers, or one that is too large.
    """
    try:
        if _first_bytes(content) == HDF5_SIGNATURE:
            with _open_hdf5(content) as arrays:
                return _read_dataset(arrays, key)
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        with zipfile.ZipFile(source) as archive:
            return _read_member(archive, key)
    except DataError as error:
        raise DataError(error.what, where=path, mend=error.mend) from error
    except OSError as error:  # HDF5's errors have no number
        if error.errno is not None and error.strerror:
            raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
        raise _damaged(error, path) from error
    except (ValueError, RuntimeError, KeyError, EOFError, NotImplementedError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise _damaged(error, path) from error


def _first_bytes(content: bytes | str | Path) -> bytes:
    """Return the first bytes, which tell the format, if it is one of the two."""
    count = len(HDF5_SIGNATURE)
    if isinstance(content, bytes):
        start = content[:count]
    else:
        with Path(content).open("rb") as file:
            start = file.read(count)
    if start != HDF5_SIGNATURE and not start.startswith(ZIP_SIGNATURE):
        raise DataError(
            "this is not a .npz or HDF5 file" if start else "the file is empty",
            mend="copy or download it again",
        )
    return start


def _open_hdf5(content: bytes | str | Path) -> h5py.File:
    if not isinstance(content, bytes):
        return h5py.File(content, "r")
    # Not from a Python file object: of a truncated one HDF5 reads memory that nothing was put in.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(content)
    return h5py.File(h5py.h5f.open(b"in memory", h5py.h5f.ACC_RDONLY, access))


def _read_member(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    names = archive.namelist()
    if f"{key}.npy" not in names:
        raise _no_such_array(key, [name.removesuffix(".npy") for name in names])
    member = archive.getinfo(f"{key}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("NumPy does not compress in this way")
    if member.file_size > LARGEST_DEFLATE_RATIO * member.compress_size:
        raise ValueError(f"{member.compress_size:,} bytes cannot hold {member.file_size:,}")
    with archive.open(member) as file:
        shape, fortran, dtype = _read_npy_header(file)
        _refuse(key, shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        if file.tell() + size != member.file_size:
            raise ValueError(f"{key!r} should have {size:,} bytes and has not")
        values = np.frombuffer(bytearray(file.read()), dtype)  # to the end: checks the checksum
    return values.reshape(shape, order="F" if fortran else "C")


def _read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of NumPy's format holds no plain numbers")


def _read_dataset(arrays: h5py.File, key: str) -> np.ndarray:
    if isinstance(arrays.get(key, getlink=True), h5py.ExternalLink):
        raise _in_another_file(key)
    dataset = arrays.get(key)
    if dataset is None:
        raise _no_such_array(key, list(arrays))
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise DataError(f"{key!r} is not an array", mend=f"arrays there: {list_some(list(arrays))}")
    _refuse(key, dataset.shape, dataset.dtype)
    if dataset.is_virtual or dataset.external:
        raise _in_another_file(key)
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > max(HARMLESS_BYTES, LARGEST_DEFLATE_RATIO * stored):
        raise DataError(
            f"{key!r} claims {dataset.nbytes:,} bytes, but only {stored:,} were written",
            mend="copy or download it again",
        )
    return np.asarray(dataset[()])


def _refuse(key: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    text = " x ".join(map(str, shape)) or "a single number"
    if dtype.kind not in NUMBERS:
        raise DataError(
            f"{key!r} holds {dtype}, not numbers", mend="save it as an array of integers or floats"
        )
    if not shape or min(shape) < 1:
        raise DataError(f"{key!r} is empty: its size is {text}", mend="download it again")
    if math.prod(shape) > LARGEST_VOLUME_VOXELS:
        raise DataError(
            f"{key!r} claims {text} numbers; at most {LARGEST_VOLUME_VOXELS:,} are read",
            mend="cut it into parts, or download it again if it is not that large",
        )


def _no_such_array(key: str, present: list[str]) -> DataError:
    return DataError(
        f"there is no array {key!r} in the file, only {list_some(present) or 'none at all'}",
        mend="check that the file is of the release that the converter reads",
    )


def _in_another_file(key: str) -> DataError:
    return DataError(
        f"the values of {key!r} are in another file",
        mend="copy the values into this file (h5copy does it)",
    )


def _damaged(reason: object, path: str | Path) -> DataError:
    return DataError(
        f"the file is damaged or truncated ({reason})",
        where=path,
        mend="copy or download it again",
    )
