"""MetaImage files, in one file (``.mha``) or two (``.mhd`` and ``.raw`` or ``.zraw``)."""

from __future__ import annotations

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

DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class _Header:
    """The fields of a header by name, and where it ends."""

    fields: dict[str, str]
    end: int
    path: str | Path

    def numbers(self, *names: str) -> list[float]:
        """Return the first of the fields that is there; the format has synonyms of some."""
        for name in names:
            if name in self.fields:
                return numbers(self.fields[name], name, self.path)
        return []

    def is_true(self, *names: str) -> bool:
        """Tell whether one of the fields says yes."""
        return any(self.fields.get(name, "")[:1] in ("T", "t", "1") for name in names)


def is_metaimage(content: bytes) -> bool:
    """Tell by the first bytes of a file whether it has a MetaImage header."""
    start = content[:4096]
    return b"\0" not in start[:16] and b"NDims" in start and b"DimSize" in start


def decode_metaimage(content: bytes, path: str | Path) -> list[Volume]:
    """Decode a MetaImage file, with the voxels of a file beside it if its header says so.

    Raises:
        DataError: It is damaged, truncated, absurdly large or of a kind that is not read.
    """
    header = _parse_header(content, path)
    voxels = _voxels_of(header)
    channels = read_voxels(voxels, memoryview(content)[header.end :], path)
    axes = len(spatial_axes(voxels, path))
    return volumes_on_grid(channels, _grid_of(header, axes), path)


def _parse_header(content: bytes, path: str | Path) -> _Header:
    fields = {}
    end = 0
    for line, end_of_line in header_lines(content):
        name, _, text = line.partition("=")
        fields[name.strip()] = text.strip()
        end = end_of_line
        if name.strip() == "ElementDataFile":  # always the last one
            break
    for needed in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
        if needed not in fields:
            raise damaged(f"the header does not say {needed!r}", path)
    return _Header(fields, end, path)


def _voxels_of(header: _Header) -> Voxels:
    path = header.path
    stored, file = header.fields["ElementType"], header.fields["ElementDataFile"]
    if stored not in DTYPES or not header.is_true("BinaryData"):
        raise DataError(
            f"voxels of the type {stored} that are {header.fields.get('BinaryData')!r} as "
            "BinaryData are not read",
            where=path,
            mend="save it with integers or floats as binary data",
        )
    if file.startswith("LIST") or "%" in file:
        raise DataError(
            "volumes with a file for each slice are not read",
            where=path,
            mend="save it as one .mha file",
        )
    sizes = whole_numbers(header.fields["DimSize"], "DimSize", path)
    if [len(sizes)] != whole_numbers(header.fields["NDims"], "NDims", path):
        raise damaged(f"{len(sizes)} sizes, but {header.fields['NDims']} dimensions", path)
    channels = whole_numbers(header.fields.get("ElementNumberOfChannels", "1"), "channels", path)
    channel_axis = 3 if len(sizes) == 4 else None
    if channels != [1]:
        sizes, channel_axis = [*channels, *sizes], 0
    big_endian = header.is_true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return Voxels(
        sizes,
        channel_axis,
        np.dtype(DTYPES[stored]).newbyteorder(">" if big_endian else "<"),
        compressed=header.is_true("CompressedData"),
        skipped=whole_numbers(header.fields.get("HeaderSize", "0"), "HeaderSize", path)[0],
        file=None if file.upper() == "LOCAL" else file,
    )


def _grid_of(header: _Header, axes: int) -> Grid:
    """Return the grid; the space of the file is that of ITK."""
    dimensions = whole_numbers(header.fields["NDims"], "NDims", header.path)[0]
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    given = {
        "spacing": header.numbers("ElementSpacing", "ElementSize") or [1.0] * dimensions,
        "origin": header.numbers("Offset", "Position", "Origin") or [0.0] * dimensions,
        "direction": header.numbers("TransformMatrix", "Orientation", "Rotation")
        or np.eye(dimensions).ravel().tolist(),
    }
    for name, values in given.items():
        if len(values) != dimensions ** (2 if name == "direction" else 1):
            raise damaged(f"the {name} has {len(values)} numbers", header.path)
    spacing[:axes] = given["spacing"][:axes]
    origin[:axes] = given["origin"][:axes]
    # Row by row it lists the direction of each axis, which are the columns in ITK.
    matrix = np.reshape(given["direction"], (dimensions, dimensions))[:axes, :axes]
    direction[:axes, :axes] = matrix.T
    return Grid(spacing, origin, direction)
