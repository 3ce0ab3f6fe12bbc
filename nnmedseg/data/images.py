"""Natural images and masks: PNG, JPEG, BMP and TIFF in, uint8 RGB, boolean masks and PNG out.

A file's format is decided by its first bytes, because copies of public data sets hold TIFF bytes
under the name ``.png``. TIFF is always read with tifffile: Pillow refuses the files of CVC-ClinicDB
and OpenCV and SimpleITK read one of their three channels without a word. Nothing is rotated by EXIF
orientation, because masks are drawn on the pixels as stored.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.data._decoding import PNG_SIGNATURE, decode, size_from_header
from nnmedseg.errors import DataError, list_some
from nnmedseg.files import atomic_path

__all__ = [
    "IMAGE_ENDINGS",
    "BinaryMask",
    "LabelImage",
    "Picture",
    "decode_image",
    "decode_labels",
    "decode_mask",
    "encode_png",
    "image_size",
    "is_plain_png",
    "read_image",
    "read_mask",
    "read_picture",
    "to_8_bits",
    "to_grey",
    "to_rgb",
    "write_png",
]

# Colour channels of a grey JPEG differ by rounding only; a mask drawn in colours differs by more.
LARGEST_JPEG_COLOUR_DIFFERENCE = 16


@dataclass(frozen=True)
class BinaryMask:
    """A mask that has been reduced to foreground and background.

    Attributes:
        pixels: Foreground, bool, (H, W).
        in_between: How many pixels were neither zero nor the mask's largest value, and were
            decided by the threshold. Zero for 1-bit masks and for label maps.
        top: The largest value as stored.
    """

    pixels: np.ndarray
    in_between: int
    top: int = 1


@dataclass(frozen=True)
class LabelImage:
    """A mask as labels.

    Attributes:
        labels: uint8, (H, W).
        in_between: As of ``BinaryMask``.
        as_stored: The file is a grey 8-bit PNG that holds just these numbers.
    """

    labels: np.ndarray
    in_between: int = 0
    as_stored: bool = False


@dataclass(frozen=True)
class Picture:
    """A natural image, and what its file held beside it.

    Attributes:
        pixels: As `read_image` returns them.
        bits: Bits a sample as stored.
        had_alpha: There was alpha, which was left out.
        had_palette: The file held indices into a palette.
    """

    pixels: np.ndarray
    bits: int
    had_alpha: bool
    had_palette: bool


def read_image(path: str | Path) -> np.ndarray:
    """Read a natural image.

    Args:
        path: A PNG, JPEG, BMP or TIFF file under any name.

    Returns:
        uint8 or uint16, (H, W) for grey images and (H, W, 3) for colour. Palettes are resolved,
        alpha is dropped, 1-bit images are 0 and 255.

    Raises:
        DataError: The file is empty, damaged, truncated, too large, or not such an image.
    """
    return decode_image(_read_bytes(path), path)


def decode_image(content: bytes, path: str | Path) -> np.ndarray:
    """Decode the content of a file; otherwise as ``read_image``. ``path`` is for messages."""
    return _unsigned(decode(content, path).through_palette(), path)


def read_picture(path: str | Path, largest: int) -> Picture:
    """Read a natural image as ``read_image`` does, with what was left out of it.

    Args:
        path: A PNG, JPEG, BMP or TIFF file under any name.
        largest: Pixels that it may have.

    Raises:
        DataError: As by ``read_image``.
    """
    samples = decode(_read_bytes(path), path, largest)
    return Picture(
        _unsigned(samples.through_palette(), path),
        samples.bits,
        samples.has_alpha,
        had_palette=samples.palette is not None,
    )


def _unsigned(values: np.ndarray, path: str | Path) -> np.ndarray:
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype.kind in "iu" and values.size and values.min() >= 0 and values.max() < 2**16:
        return values.astype(np.uint16)
    raise DataError(
        f"images hold 8 or 16 bit unsigned numbers, this one holds {values.dtype}",
        where=path,
        mend="save it as an 8 bit image, with a fixed window if it is CT",
    )


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """Return an image of 8 or 16 bits as uint8.

    Of 16 bits the eight highest that the image uses are kept, so that 12-bit images stored in 16 do
    not turn black.
    """
    if image.dtype != np.uint16:
        return image
    used_bits = max(8, int(image.max(initial=0)).bit_length())
    return (image >> (used_bits - 8)).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image as RGB.

    Args:
        image: uint8 or uint16, (H, W) or (H, W, 3).

    Returns:
        uint8, (H, W, 3), brought to 8 bits by ``to_8_bits``.
    """
    image = to_8_bits(image)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def read_mask(path: str | Path) -> BinaryMask:
    """Read a binary mask, whatever its encoding.

    Alpha is dropped. Foreground is 128 and above in 8-bit masks, 32768 and above in 16-bit masks,
    and everything above zero in 1-bit masks and in label maps. A label map has a palette of
    colours, fewer than 8 bits, or no value that reaches half of its range; JPEG holds none.

    Raises:
        DataError: The file cannot be read, or its colours are not shades of grey.
    """
    return decode_mask(_read_bytes(path), path)


def decode_mask(content: bytes, path: str | Path) -> BinaryMask:
    """Decode the content of a file; otherwise as ``read_mask``. ``path`` is for messages."""
    samples = decode(content, path)
    # A palette of colours is decoration on a label map: its indices are the labels.
    labels = samples.has_colour_palette
    values = samples.values if labels else samples.through_palette()
    if values.ndim == 3:
        values = _only_channel(values, samples.lossy, path)
    if values.dtype.kind not in "iu" or (values.size and values.min() < 0):
        raise DataError(
            f"masks hold whole numbers from 0 on, this one holds {values.dtype}",
            where=path,
            mend="save it as an 8 bit image with 0 for background",
        )
    top = int(values.max(initial=0))
    threshold = 1 if labels else _threshold(top, samples.bits, lossy=samples.lossy)
    if threshold == 1:
        return BinaryMask(values != 0, in_between=0, top=top)
    in_between = np.count_nonzero(values) - np.count_nonzero(values == top)
    return BinaryMask(values >= threshold, int(in_between) if top else 0, top)


def decode_labels(content: bytes, path: str | Path, label_values: Mapping[int, int]) -> LabelImage:
    """Decode a label map.

    Args:
        content: Of the file. Of a palette the indices are the values; grey values of fewer than 8
            bits are taken as they are stored.
        path: For messages.
        label_values: Label of each value that may be in it.

    Raises:
        DataError: It cannot be read, is a JPEG (which blurs labels), is drawn in colours, or holds
            other values; they are named.
    """
    samples = decode(content, path)
    if samples.lossy:
        raise DataError(
            "JPEG blurs the borders between labels, so a label map cannot be one",
            where=path,
            mend="use the PNG or TIFF masks, or leave out the labels if the masks are binary",
        )
    values = samples.values
    if values.ndim == 3:
        values = _only_channel(values, lossy=False, path=path)
    if samples.palette is not None and not samples.has_colour_palette:
        values = samples.through_palette()
    elif samples.bits < 8 and samples.palette is None:
        values = values // (255 // (2**samples.bits - 1))
    present = np.flatnonzero(np.bincount(_small_numbers(values, path).ravel()))
    unknown = [int(value) for value in present if int(value) not in label_values]
    if unknown:
        raise DataError(
            f"values that are no label: {list_some(unknown)} (labels: "
            f"{list_some(sorted(label_values))}; --labels can name them, *=background all others)",
            where=path,
        )
    table = np.zeros(int(present.max(initial=0)) + 1, np.uint8)
    for value in present:
        table[value] = label_values[int(value)]
    unchanged = all(label_values[int(value)] == value for value in present)
    return LabelImage(table[values], as_stored=unchanged and is_plain_png(content, colour=False))


def is_plain_png(content: bytes, *, colour: bool) -> bool:
    """Return whether nnU-Net reads a file as it is: a PNG of 8 bits, RGB or grey.

    No palette, no alpha and no transparent colour, whatever the name of the file. Only whether it
    is complete is not looked at.
    """
    if not content.startswith(PNG_SIGNATURE) or len(content) < 33:
        return False
    bits, colour_type = content[24], content[25]
    header = content[: max(content.find(b"IDAT"), 33)]
    return bits == 8 and colour_type == (2 if colour else 0) and b"tRNS" not in header


def to_grey(image: np.ndarray, path: str | Path) -> np.ndarray:
    """Return an image of equal colour channels, or a grey one, as uint8 (H, W).

    Of 16-bit images the eight highest bits in use are kept, as by ``to_rgb``.

    Raises:
        DataError: It has colours.
    """
    rgb = to_rgb(image)
    grey = rgb[..., 0]
    difference = max(
        int(np.abs(grey.astype(np.int16) - rgb[..., n]).max(initial=0)) for n in (1, 2)
    )
    if image.ndim == 3 and difference > LARGEST_JPEG_COLOUR_DIFFERENCE:
        raise DataError(
            f"a grey image is needed, the colours of this one differ by {difference}",
            where=path,
            mend="take it out, or convert it to grey",
        )
    return np.ascontiguousarray(grey)


def _small_numbers(values: np.ndarray, path: str | Path) -> np.ndarray:
    if values.dtype.kind in "iu" and values.size and 0 <= values.min() <= values.max() < 2**16:
        return values
    raise DataError(
        f"labels are whole numbers from 0 to 65535, this file holds {values.dtype}",
        where=path,
        mend="save it as an 8 bit image of the labels",
    )


def image_size(path: str | Path) -> tuple[int, int]:
    """Return height and width (px) from the header, without decoding.

    Raises:
        DataError: The file is empty or not an image of a known format.
    """
    try:
        with Path(path).open("rb") as file:
            return size_from_header(file, path)
    except OSError as error:
        raise _cannot_be_read(path, error) from error


def write_png(image: np.ndarray, path: str | Path, *, durable: bool = True) -> None:
    """Write a PNG, whole or not at all.

    Args:
        image: As for ``encode_png``.
        path: Where to.
        durable: As for ``atomic_path``.
    """
    content = encode_png(image)
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def encode_png(image: np.ndarray) -> bytes:
    """Encode as PNG with low effort.

    Every row is stored as its difference to the row above (filter "Up"), compressed by libdeflate
    at its first level. On dermoscopic images that takes a quarter of the time of Pillow's level 1,
    gives smaller files, and they decode faster than files with a filter chosen for each row.

    Args:
        image: uint8, (H, W) or (H, W, 3).

    Raises:
        ValueError: It has another type or shape.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise ValueError(f"uint8 (H, W) or (H, W, 3) is needed, not {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    flat = image.reshape(height, -1)
    rows = np.empty((height, 1 + flat.shape[1]), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    colour_type = 0 if image.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    pixels = bytes(imagecodecs.deflate_encode(rows.data, level=1))  # type: ignore[arg-type]
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_png_chunk(kind, content) for kind, content in chunks)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _threshold(top: int, bits: int, *, lossy: bool) -> int:
    """Return the smallest value that is foreground in a mask whose largest value is ``top``."""
    if lossy:
        return 128  # compression leaves values around 0, so that "above zero" would find noise
    if bits < 8:
        return 1
    if top == 255 or (bits == 8 and top >= 128):
        return 128
    return 2**15 if top >= 2**15 else 1


def _only_channel(values: np.ndarray, lossy: bool, path: str | Path) -> np.ndarray:
    first = values[..., 0]
    tolerance = LARGEST_JPEG_COLOUR_DIFFERENCE if lossy else 0
    for channel in (1, 2):
        other = values[..., channel]
        if np.array_equal(first, other):
            continue
        difference = int(np.abs(first.astype(np.int32) - other).max())
        if difference > tolerance:
            raise DataError(
                f"a mask must be black and white, the colours of this one differ by {difference}",
                where=path,
                mend="check that it is the mask and not an image or an overlay",
            )
    return first


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _cannot_be_read(path, error) from error


def _cannot_be_read(path: str | Path, error: OSError) -> DataError:
    return DataError(f"the file cannot be read: {error.strerror}", where=path)
