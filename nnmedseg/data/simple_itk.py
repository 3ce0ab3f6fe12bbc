"""Files read and written by SimpleITK, by one thread at a time.

Two of its readers at work at once on different files damage the memory of the process: it aborts,
or, worse, a header comes back with other numbers. Every use of its files goes through here, which
the linter sees to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):  # a process that begins meanwhile would wait for ever
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


@dataclass(frozen=True)
class Header:
    """What SimpleITK says of a file; lengths and directions are in ITK's space (LPS).

    Attributes:
        size: Voxels along each axis of the file, (x, y, ...).
        spacing: Distance of neighbouring voxels in mm, (x, y, ...).
        origin: Position of the first voxel in mm, (x, y, ...).
        direction: The axes as the columns of a square matrix, row by row.
        components: Numbers for each voxel.
        pixel_type: SimpleITK's number for the type of the voxels.
        metadata: The texts of the file's own fields.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    components: int
    pixel_type: int
    metadata: dict[str, str]


def alone() -> AbstractContextManager[bool]:
    """Return a block in which no other thread uses SimpleITK's files, for nnU-Net's readers."""
    return _LOCK


def read_header(path: str | Path, file_format: str | None = None, *, warn: bool = True) -> Header:
    """Read what a file says of its grid, without its voxels.

    Args:
        path: The file.
        file_format: Name of ITK's reader, such as ``"NiftiImageIO"``; otherwise the file's.
        warn: Whether ITK may print what it thinks of the file.

    Raises:
        RuntimeError: SimpleITK cannot read it.
    """
    with _LOCK:
        shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown and warn)
        try:
            return _header_of(_reader(path, file_format))
        finally:
            SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def read_values(
    path: str | Path,
    file_format: str | None = None,
    check: Callable[[Header], None] = lambda header: None,
) -> tuple[np.ndarray, Header]:
    """Read a file's numbers, (..., Y, X), and its header.

    Args:
        path: The file.
        file_format: Name of ITK's reader; otherwise the file's.
        check: Called with the header before the voxels are read; may raise.

    Raises:
        RuntimeError: SimpleITK cannot read it.
    """
    with _LOCK:
        reader = _reader(path, file_format)
        try:
            header = _header_of(reader)
            check(header)
            return SimpleITK.GetArrayFromImage(reader.Execute()), header
        finally:
            del reader  # an error would keep it for others to delete, when the lock is free


def write_image(image: SimpleITK.Image, path: str | Path) -> None:
    """Write an image, compressed, in the format of the file's ending.

    Raises:
        RuntimeError: It cannot be written.
    """
    with _LOCK:
        SimpleITK.WriteImage(image, str(path), True)


def _reader(path: str | Path, file_format: str | None) -> SimpleITK.ImageFileReader:
    reader = SimpleITK.ImageFileReader()
    if file_format is not None:
        reader.SetImageIO(file_format)
    reader.SetFileName(str(path))
    return reader


def _header_of(reader: SimpleITK.ImageFileReader) -> Header:
    try:
        reader.ReadImageInformation()
        return Header(
            reader.GetSize(),
            reader.GetSpacing(),
            reader.GetOrigin(),
            reader.GetDirection(),
            reader.GetNumberOfComponents(),
            reader.GetPixelID(),
            {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()},
        )
    finally:
        del reader
