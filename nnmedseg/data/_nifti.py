"""NIfTI files, decoded with nibabel's headers and strictly, on the grid that SimpleITK sees.

SimpleITK fills the missing voxels of a truncated file with zeros and ignores gzip's checksum, so
voxels are decoded here. Which of a header's two transforms counts is another matter: the rules
differ between libraries, and nnU-Net reads with SimpleITK. So SimpleITK is asked, with the header
alone.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from nibabel.nifti1 import Nifti1Header, data_type_codes
from nibabel.nifti2 import Nifti2Header

from nnmedseg.data._inflate import GZIP_SIGNATURE, first_bytes, inflate
from nnmedseg.data._volume import (
    Grid,
    Volume,
    check_length,
    damaged,
    native,
    refuse_absurd_sizes,
    sheared,
    volumes_on_grid,
)
from nnmedseg.data.simple_itk import read_header
from nnmedseg.errors import DataError

HEADERS = {348: Nifti1Header, 540: Nifti2Header}
"""What the first four bytes say, the size of the header, for each version of the format."""

LONGEST_SIDE_OF_NIFTI_1 = 2**15 - 1

DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
"""NIfTI's numbers for the types that are read."""

TRANSFORMS = {
    "qform_code": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    "sform_code": ("srow_x", "srow_y", "srow_z"),
}
"""The fields of a header's two transforms; a code of 0 says that there is none."""


@dataclass(frozen=True)
class _Layout:
    """Where voxels lie: ``shape`` is (C, Z, Y, X), ``start`` and ``end`` are bytes of the file."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    start: int

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def is_nifti(content: bytes) -> bool:
    """Tell by the first bytes of a file whether it is NIfTI, not compressed."""
    return _header_size(content) in HEADERS


def decode_nifti(content: bytes, path: str | Path) -> list[Volume]:
    """Decode a NIfTI file, compressed or not, to one volume for each channel.

    Values are float32 where the header has a scale (``scl_slope``, ``scl_inter``), otherwise as
    stored. Without any transform (both codes 0) the grid has the spacing of ``pixdim``, lies at
    the origin and is not turned.

    Raises:
        DataError: The file is damaged, truncated, absurdly large or of a type that is not read.
    """
    packed = content.startswith(GZIP_SIGNATURE)
    header = _parse_header(first_bytes(content, 540, path) if packed else content[:540], path)
    layout = _layout_of(header, path)
    if packed:
        stored: np.ndarray = inflate(content, layout.end, path)
    else:
        check_length(len(content), layout.end, path)
        stored = np.frombuffer(content, np.uint8, layout.end)
    values = native(stored[layout.start :].view(layout.dtype)).reshape(layout.shape)
    return volumes_on_grid(_scaled(values, header), _grid_of(header, path), path)


def encode_nifti(volume: Volume) -> bytes:
    """Encode as a compressed NIfTI file (``.nii.gz``) with little effort, for speed.

    It is NIfTI-1, unless a side is too long for its 16 bits: then it is NIfTI-2, which nibabel
    reads, but not SimpleITK.

    Raises:
        ValueError: NIfTI has no such type, or the values are not (Z, Y, X).
    """
    values = volume.values
    if values.dtype in (np.bool_, np.float16):
        values = values.astype(np.uint8 if values.dtype == np.bool_ else np.float32)
    little_endian = values.dtype.newbyteorder("<")
    if values.ndim != 3 or little_endian.str[1:] not in DTYPES.values():
        raise ValueError(f"numbers (Z, Y, X) are needed, not {values.dtype} {values.shape}")
    kind = Nifti1Header if max(values.shape) <= LONGEST_SIDE_OF_NIFTI_1 else Nifti2Header
    header = kind(endianness="<")
    header.set_data_dtype(little_endian)
    header.set_data_shape(values.shape[::-1])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(volume.direction, (3, 3)) * volume.spacing[::-1]
    affine[:3, 3] = volume.origin
    affine[:2] *= -1  # ITK's x and y grow to the left and to the back, NIfTI's the other way
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header["pixdim"][1:4] = volume.spacing[::-1]
    header.set_xyzt_units("mm")
    header["magic"] = header.single_magic
    header["vox_offset"] = start = header.single_vox_offset
    content = np.zeros(start + values.nbytes, np.uint8)
    content[: header.sizeof_hdr] = np.frombuffer(header.binaryblock, np.uint8)
    content[start:].view(little_endian).reshape(values.shape)[...] = values
    return bytes(imagecodecs.gzip_encode(content.data, level=1))  # type: ignore[arg-type]


def _header_size(content: bytes) -> int:
    little = int.from_bytes(content[:4], "little")
    return little if little in HEADERS else int.from_bytes(content[:4], "big")


def _parse_header(content: bytes, path: str | Path) -> Nifti1Header:
    size = _header_size(content)
    if len(content) < min(HEADERS):
        raise damaged(f"its header has only {len(content)} bytes", path)
    if size not in HEADERS:
        raise DataError(
            "the file is compressed, but what it holds is no NIfTI volume",
            where=path,
            mend="decompress it and look what it is, or download it again",
        )
    if len(content) < size:
        raise damaged(f"its header has only {len(content)} bytes", path)
    header = HEADERS[size](content[:size], check=False)
    if header["sizeof_hdr"] != size:
        raise damaged("the number of dimensions is impossible", path)
    if not bytes(header["magic"]).startswith(b"n+"):
        raise DataError(
            "this is only the header of a volume in two files (.hdr and .img), or Analyze",
            where=path,
            mend="convert it to a single NIfTI file (.nii.gz)",
        )
    return header


def _layout_of(header: Nifti1Header, path: str | Path) -> _Layout:
    dimensions = int(header["dim"][0])
    if not 2 <= dimensions <= 7:
        raise damaged(f"it says that the volume has {dimensions} dimensions", path)
    sizes = [int(size) for size in header["dim"][1 : dimensions + 1]]
    refuse_absurd_sizes(sizes, path)
    x, y, z, *further = [*sizes, 1][: max(3, dimensions)]
    if sum(size > 1 for size in further) > 1:
        raise DataError(
            f"the volume has {dimensions} dimensions ({' x '.join(map(str, sizes))}), three for "
            "space and one for channels are read",
            where=path,
            mend="save the volumes that it holds as files of their own",
        )
    code = int(header["datatype"])
    if code not in DTYPES:
        name = str(data_type_codes.niistring.get(code, f"type {code}"))
        raise DataError(
            f"the voxels are of the type {name.removeprefix('NIFTI_TYPE_')}, which is not read",
            where=path,
            mend="save it with one number for each voxel: integers, or 32 or 64 bit floats",
        )
    start = float(header["vox_offset"])
    if not (header.sizeof_hdr <= start < 2**31 and start.is_integer()):
        raise damaged(f"it says that voxels start at byte {start:g}", path)
    dtype = np.dtype(DTYPES[code]).newbyteorder(header.endianness)
    return _Layout((math.prod(further), z, y, x), dtype, int(start))


def _scaled(values: np.ndarray, header: Nifti1Header) -> np.ndarray:
    slope, offset = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:  # how the format says "no scale"
        return values
    offset = offset if math.isfinite(offset) else 0.0
    if (slope, offset) == (1.0, 0.0):
        return values
    scaled = np.empty(values.shape, np.float32)
    for channel, target in zip(values, scaled, strict=True):
        for stored, plane in zip(channel, target, strict=True):  # float64 only plane by plane
            with np.errstate(over="ignore"):  # infinite values are for the caller to count
                plane[...] = stored * slope + offset
    return scaled


def _grid_of(header: Nifti1Header, path: str | Path) -> Grid:
    """Return the grid as SimpleITK reads it; with a spacing that it must not have, only that."""
    spacing = np.array(header["pixdim"][1:4], np.float64)
    if header["dim"][0] == 2:
        spacing[2] = 1.0  # a single slice has none, whatever is written there
    if not (spacing.min() > 0 and spacing.max() < np.finfo(np.float32).max):
        return Grid(spacing, np.zeros(3), np.eye(3))
    alone = Nifti1Header(endianness="<")
    alone.set_data_shape((1, 1, 1))
    alone.set_data_dtype(np.uint8)
    alone["magic"], alone["vox_offset"] = alone.single_magic, alone.single_vox_offset
    alone["pixdim"][:4] = -1 if header["pixdim"][0] < 0 else 1, *spacing
    alone["xyzt_units"] = header["xyzt_units"]
    for code, fields in TRANSFORMS.items():
        alone[code] = header[code]
        for field in fields if header[code] > 0 else ():
            if not (np.abs(header[field]) < np.finfo(np.float32).max).all():
                raise damaged(f"{field} in its header is {header[field]}", path)
            alone[field] = header[field]
    with tempfile.NamedTemporaryFile(suffix=".nii", delete=False) as file:
        file.write(alone.binaryblock + bytes(8))
    try:
        seen = read_header(file.name, "NiftiImageIO", warn=False)
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise sheared(path) from error
        raise damaged(str(error).splitlines()[-1], path) from error
    finally:
        Path(file.name).unlink()
    return Grid(np.array(seen.spacing), np.array(seen.origin), np.reshape(seen.direction, (3, 3)))
