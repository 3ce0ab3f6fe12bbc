"""From the bytes of a PNG, JPEG, BMP or TIFF file to samples, strictly: no guessing at damage."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from nnmedseg.errors import DataError

LARGEST_IMAGE_PIXELS = 2**27
"""Pixels of the largest image that is read, about 11,500 x 11,500: 0.4 GiB as RGB."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIGNATURES = {
    PNG_SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
# A deflate stream expands at most 1032 times (258 bytes from 2 bits), so a PNG whose header claims
# more than that is damaged, whatever its size.
LARGEST_DEFLATE_RATIO = 1032
TIFF_JPEG = (6, 7, 34892)
"""TIFF's numbers for compression by JPEG, which is lossy."""


@dataclass(frozen=True)
class Samples:
    """Samples as decoded, without alpha.

    Attributes:
        values: (H, W) or (H, W, 3), or palette indices (H, W).
        bits: Bits a sample as stored; grey values of fewer than 8 are stretched to 0..255.
        lossy: The compression may have changed values.
        palette: RGB of each value, uint8, (256, 3), when the values are indices.
    """

    values: np.ndarray
    bits: int
    lossy: bool = False
    palette: np.ndarray | None = None

    @property
    def has_colour_palette(self) -> bool:
        """Whether the values are indices into a palette that holds more than greys."""
        if self.palette is None:
            return False
        used = self.palette[: int(self.values.max(initial=0)) + 1]
        return bool((used != used[:, :1]).any())

    def through_palette(self) -> np.ndarray:
        """Return (H, W) for greys and (H, W, 3) for colours."""
        if self.palette is None:
            return self.values
        if self.has_colour_palette:
            return self.palette[self.values]
        return self.palette[:, 0][self.values]


def decode(content: bytes, path: str | Path) -> Samples:
    """Decode the content of an image file; ``path`` is for messages.

    Raises:
        DataError: It is empty, damaged, truncated, too large, or of no known format.
    """
    kind = _format_of(content, path)
    try:
        return _decode_tiff(content) if kind == "TIFF" else _decode_with_pillow(content, kind)
    except DataError as error:
        raise DataError(error.what, where=path, mend=error.mend) from error
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise _unreadable(path, error) from error


def size_from_header(file: BinaryIO, path: str | Path) -> tuple[int, int]:
    """Return height and width (px) of an open image file; ``path`` is for messages.

    Raises:
        DataError: It is empty, of no known format, or its header is damaged.
    """
    kind = _format_of(file.read(16), path)
    file.seek(0)
    try:
        if kind == "TIFF":
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages.first
                return page.imagelength, page.imagewidth
        with Image.open(file, formats=(kind,)) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise _unreadable(path, error) from error


def _format_of(content: bytes, path: str | Path) -> str:
    if not content:
        raise DataError("the file is empty", where=path, mend="copy or download it again")
    for signature, name in SIGNATURES.items():
        if content.startswith(signature):
            return name
    raise DataError(
        "this is not a PNG, JPEG, BMP or TIFF file",
        where=path,
        mend="download it again if it should be one, or convert it to PNG",
    )


def _unreadable(path: str | Path, error: Exception) -> DataError:
    return DataError(
        f"the image is damaged or truncated ({error})",
        where=path,
        mend="copy or download it again",
    )


def _refuse_absurd_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise DataError(f"the image has no pixels ({width} x {height})")
    if width * height > LARGEST_IMAGE_PIXELS:
        raise DataError(
            f"the header says {width} x {height} pixels; at most {LARGEST_IMAGE_PIXELS:,} are read",
            mend="cut it into tiles, or download it again if it is not that large",
        )


def _decode_with_pillow(content: bytes, kind: str) -> Samples:
    bits = 8
    if kind == "PNG":
        bits = _check_png_header(content)
    with Image.open(io.BytesIO(content), formats=(kind,)) as image:
        _refuse_absurd_size(image.width, image.height)
        if bits == 16:  # Pillow keeps only 8 bits of colour images
            return Samples(_without_alpha(imagecodecs.png_decode(content)), bits)
        if image.mode == "1":
            return Samples(np.asarray(image, dtype=np.uint8) * np.uint8(255), bits=1)
        if image.mode == "P":
            palette = np.zeros((256, 3), np.uint8)
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours)] = colours
            return Samples(np.asarray(image), bits, palette=palette)
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            return Samples(np.asarray(image.convert("RGB")), bits, lossy=kind == "JPEG")  # CMYK
        return Samples(_without_alpha(np.asarray(image)), bits, lossy=kind == "JPEG")


def _check_png_header(content: bytes) -> int:
    """Check that the header can be true and return the bits a sample, which Pillow hides."""
    if content[12:16] != b"IHDR":
        raise ValueError("there is no header")
    width, height, bits, colour_type = struct.unpack_from(">IIBB", content, 16)
    _refuse_absurd_size(width, height)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    if width * height * channels * bits > 8 * LARGEST_DEFLATE_RATIO * len(content):
        raise ValueError(f"{len(content)} bytes cannot hold {width} x {height} pixels")
    return int(bits)


def _without_alpha(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        return values
    return values[..., 0] if values.shape[2] <= 2 else values[..., :3]


def _decode_tiff(content: bytes) -> Samples:
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages.first
        _refuse_absurd_size(page.imagewidth, page.imagelength)
        stored = zip(page.dataoffsets, page.databytecounts, strict=True)
        if any(offset + count > len(content) for offset, count in stored):
            raise ValueError("pixels are missing at the end")
        images = [other for other in tiff.pages if not getattr(other, "is_reduced", False)]
        if len(images) > 1 or page.imagedepth > 1:
            raise DataError(
                "the TIFF file holds more than one image",
                mend="save each image as a file of its own",
            )
        return _samples_of_page(page)


def _samples_of_page(page: tifffile.TiffPage) -> Samples:
    lossy = page.compression in TIFF_JPEG
    kind = tifffile.PHOTOMETRIC(page.photometric).name
    if kind not in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE") and not (
        kind == "YCBCR" and lossy  # the decoder gives RGB then
    ):
        raise DataError(f"TIFF files of the kind {kind} are not read", mend="save it as RGB")
    values = page.asarray()
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3:
        # Three samples are RGB even where the tag says grey (CVC-ClinicDB).
        values = _without_alpha(values)
    bits = page.bitspersample
    if page.colormap is not None:
        palette = np.zeros((256, 3), np.uint8)
        colours = page.colormap.T[:256] >> 8
        palette[: len(colours)] = colours
        return Samples(values, bits, palette=palette)
    if bits < 8:
        values = values.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
    if kind == "MINISWHITE":
        values = np.iinfo(values.dtype).max - values
    return Samples(values, bits, lossy)
