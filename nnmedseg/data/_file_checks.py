"""What is known of an image file before its pixels are decoded: its end, and what it can hold."""

from __future__ import annotations

import struct
import zlib

import tifffile
from PIL import ImageFile

from nnmedseg.errors import DataError

LARGEST_IMAGE_PIXELS = 2**27
"""Pixels of the largest image that is read, about 11,500 x 11,500: 0.4 GiB as RGB."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A deflate stream expands at most 1032 times (258 bytes from 2 bits), so a PNG whose header claims
# more than that is damaged, whatever its size.
LARGEST_DEFLATE_RATIO = 1032
# In a JPEG every block of 8 x 8 pixels takes at least one bit; in a BMP every pixel does.
LARGEST_PIXELS_PER_BYTE = {"JPEG": 512, "BMP": 8}
# No compression, LZW, deflate, PackBits, and deflate by its old number: all below this ratio.
TIFF_BYTE_COMPRESSIONS = (1, 5, 8, 32773, 32946)
LARGEST_TIFF_RATIO = 2048


class AbsurdSizeError(DataError):
    """A header that claims more pixels than are read, or than the file can hold."""


def refuse_absurd_size(width: int, height: int, largest: int = LARGEST_IMAGE_PIXELS) -> None:
    """Raise DataError for an image without pixels, AbsurdSizeError for more than ``largest``."""
    if width < 1 or height < 1:
        raise DataError(f"the image has no pixels ({width} x {height})")
    if width * height > largest:
        raise AbsurdSizeError(
            f"the header says {width} x {height} pixels; at most {largest:,} are read",
            mend="cut it into tiles, or download it again if it is not that large",
        )


def refuse_impossible_size(image: ImageFile.ImageFile, content: bytes) -> None:
    """Raise AbsurdSizeError for a JPEG or BMP that claims more than its bytes can hold.

    Pillow allocates what the header claims before it finds that the pixels are not there.
    """
    is_run_length_coded = image.format == "BMP" and image.tile[0][0] != "raw"
    if image.format not in LARGEST_PIXELS_PER_BYTE or is_run_length_coded:
        return
    if image.width * image.height > LARGEST_PIXELS_PER_BYTE[image.format] * len(content):
        raise impossible_size(image.width, image.height, content)


def refuse_impossible_tiff(page: tifffile.TiffPage, content: bytes) -> None:
    """Raise AbsurdSizeError for a TIFF that claims more than its bytes can hold."""
    is_bounded = page.compression in TIFF_BYTE_COMPRESSIONS
    if is_bounded and page.nbytes > LARGEST_TIFF_RATIO * len(content):
        raise impossible_size(page.imagewidth, page.imagelength, content)


def impossible_size(width: int, height: int, content: bytes) -> AbsurdSizeError:
    """Return the error for a header that claims more than the file can hold."""
    return AbsurdSizeError(
        f"the image is damaged or truncated (the header says {width} x {height} pixels, which "
        f"{len(content):,} bytes cannot hold)",
        mend="copy or download it again",
    )


def check_png_chunks(content: bytes) -> None:
    """Check the end and the checksums of what the pixels depend on, which Pillow does not.

    Raises:
        ValueError: The end is missing, or a checksum is wrong.
    """
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        end = position + 8
        if end <= len(content):
            (length,) = struct.unpack_from(">I", content, position)
            kind = content[position + 4 : end]
            end += length
        if end + 4 > len(content):
            raise ValueError("the end is missing")
        checksum = int.from_bytes(content[end : end + 4], "big")
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(memoryview(content)[position + 4 : end]) != checksum:
            raise ValueError(f"the checksum of {kind.decode('latin-1')} is wrong")
        position = end + 4


def check_end_of_jpeg(content: bytes) -> None:
    """Check for the marker at the end: decoders fill up what is missing without a word.

    Raises:
        ValueError: It is not there.
    """
    position = 2
    while content[position + 1 : position + 2] not in (b"\xda", b""):  # the start of the pixels
        if content[position + 1] == 0xFF:  # padding before a marker
            position += 1
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    if content.find(b"\xff\xd9", position) < 0:
        raise ValueError("the end is missing")
