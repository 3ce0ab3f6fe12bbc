"""NRRD files, attached (``.nrrd``) and detached (``.nhdr``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnmedseg.data._text_headers import (
    Voxels,
    header_lines,
    numbers,
    read_voxels,
    spatial_axes,
    whole_numbers,
)
from nnmedseg.data._volume import Grid, Volume, damaged, volumes_on_grid
from nnmedseg.errors import DataError

SIGNATURE = b"NRRD000"

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int",
           "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
DTYPES = {name: dtype for dtype, names in TYPES.items() for name in names}

AXES_OF_SPACE = ("domain", "space", "time")
"""The kinds of axes along which voxels are neighbours; other kinds count channels."""

TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
"""Signs of x, y and z from each space that has a place in the patient to ITK's."""


@dataclass(frozen=True)
class _Header:
    """The fields of a header by name, in lower case, and where it ends."""

    fields: dict[str, str]
    end: int
    path: str | Path

    def text(self, *names: str) -> str | None:
        """Return the first of the fields that is there; the format has two spellings of some."""
        return next((self.fields[name] for name in names if name in self.fields), None)

    def vectors(self, name: str) -> list[list[float] | None]:
        """Return the vectors of a field such as ``(1,0,0) none (0,1,0)``."""
        found = re.findall(r"none|\([^)]*\)", self.fields.get(name, ""))
        vectors = [
            None if text == "none" else numbers(text[1:-1], name, self.path) for text in found
        ]
        if any(vector is not None and not 2 <= len(vector) <= 4 for vector in vectors):
            raise damaged(f"{name}: {self.fields[name]!r} in the header", self.path)
        return [None if vector is None else [*vector, 0.0][:3] for vector in vectors]


def decode_nrrd(content: bytes, path: str | Path) -> list[Volume]:
    """Decode an NRRD file, with the voxels of a file beside it if its header says so.

    Raises:
        DataError: It is damaged, truncated, absurdly large or of a kind that is not read.
    """
    header = _parse_header(content, path)
    voxels = _voxels_of(header)
    channels = read_voxels(voxels, memoryview(content)[header.end :], path)
    return volumes_on_grid(channels, _grid_of(header, spatial_axes(voxels, path)), path)


def _parse_header(content: bytes, path: str | Path) -> _Header:
    fields = {}
    end = len(content)
    for line, end_of_line in header_lines(content):
        if not line:
            end = end_of_line
            break
        name, divider, text = line.partition(":")
        if divider and not line.startswith("#") and not text.startswith("="):
            fields[name.strip().lower()] = text.strip()
    for needed in ("type", "dimension", "sizes", "encoding"):
        if needed not in fields:
            raise damaged(f"the header does not say {needed!r}", path)
    return _Header(fields, end, path)


def _voxels_of(header: _Header) -> Voxels:
    path = header.path
    encoding, stored = header.fields["encoding"].lower(), header.fields["type"].lower()
    if encoding not in ("raw", "gzip", "gz") or stored not in DTYPES:
        raise DataError(
            f"voxels of the type {stored!r} in the encoding {encoding!r} are not read",
            where=path,
            mend="save it with integers or floats in the encoding raw or gzip",
        )
    dtype = np.dtype(DTYPES[stored])
    endian = header.fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise damaged(f"the header says {endian or 'nothing'} about the byte order", path)
    sizes = whole_numbers(header.fields["sizes"], "sizes", path)
    if [len(sizes)] != whole_numbers(header.fields["dimension"], "dimension", path):
        raise damaged(f"{len(sizes)} sizes, but dimension {header.fields['dimension']}", path)
    return Voxels(
        sizes,
        _channel_axis(header, len(sizes)),
        dtype.newbyteorder("<" if endian == "little" else ">"),
        compressed=encoding != "raw",
        skipped=_skipped_bytes(header, compressed=encoding != "raw"),
        file=_data_file(header),
    )


def _skipped_bytes(header: _Header, *, compressed: bool) -> int:
    skips = [header.text(f"{unit} skip", f"{unit}skip") or "0" for unit in ("line", "byte")]
    lines, skipped = (whole_numbers(skip, "skip", header.path)[0] for skip in skips)
    if lines != 0 or skipped < -1 or (compressed and skipped != 0):
        raise DataError(
            f"skipping {lines} lines and {skipped} bytes before the voxels is not supported",
            where=header.path,
            mend="save it as one .nrrd file",
        )
    return skipped


def _data_file(header: _Header) -> str | None:
    file = header.text("data file", "datafile")
    if file is not None and (file.startswith("LIST") or re.search(r"%\d*d", file)):
        raise DataError(
            "volumes with a file for each slice are not read",
            where=header.path,
            mend="save it as one .nrrd file",
        )
    return file


def _channel_axis(header: _Header, dimensions: int) -> int | None:
    vectors = header.vectors("space directions")
    kinds = header.fields.get("kinds", "").lower().split()
    if len(vectors) == dimensions and None in vectors:
        axes = [axis for axis, vector in enumerate(vectors) if vector is None]
    elif len(kinds) == dimensions:
        axes = [axis for axis, kind in enumerate(kinds) if kind not in (*AXES_OF_SPACE, "???")]
    else:
        axes = []
    if len(axes) > 1:
        raise DataError(
            f"{len(axes)} of the {dimensions} axes count something else than space, one is read",
            where=header.path,
            mend="save the volumes that it holds as files of their own",
        )
    if not axes and dimensions == 4:
        return 3
    return axes[0] if axes else None


def _grid_of(header: _Header, axes: list[int]) -> Grid:
    """Return the grid, turned from the space of the file to that of ITK."""
    vectors = header.vectors("space directions")
    if not vectors:
        return _grid_without_directions(header, axes)
    spacing, direction = np.ones(3), np.eye(3)
    for index, axis in enumerate(axes):
        vector = vectors[axis] if axis < len(vectors) else None
        if vector is None:
            raise damaged("an axis of space has no direction", header.path)
        spacing[index] = np.linalg.norm(vector)
        direction[:, index] = vector / max(spacing[index], np.finfo(float).tiny)
    origin = next(iter(header.vectors("space origin")), None) or [0.0, 0.0, 0.0]
    signs = np.array(TO_LPS.get(header.fields.get("space", "").lower(), (1, 1, 1)))
    return Grid(spacing, signs * origin, signs[:, None] * direction)


def _grid_without_directions(header: _Header, axes: list[int]) -> Grid:
    if "space" in header.fields:
        raise damaged("the header names a space, but not the directions of the axes", header.path)
    given = {
        name: numbers(header.text(name, name.replace(" ", "")) or "", name, header.path)
        for name in ("spacings", "axis mins")
    }
    if any(values and len(values) <= max(axes) for values in given.values()):
        raise damaged("the header does not say the spacing of every axis", header.path)
    spacing, origin = np.ones(3), np.zeros(3)
    if given["spacings"]:
        spacing[: len(axes)] = [given["spacings"][axis] for axis in axes]
    if given["axis mins"]:
        # It is where the first voxel begins, unless voxels are said to be points.
        centers = header.text("centers", "centerings") or ""
        shift = 0.0 if "node" in centers else 0.5
        lowest = np.array([given["axis mins"][axis] for axis in axes])
        origin[: len(axes)] = lowest + shift * spacing[: len(axes)]
    return Grid(spacing, origin, np.eye(3))
