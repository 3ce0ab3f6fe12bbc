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
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

from nnmedseg.data._file_checks import (
    LARGEST_DEFLATE_RATIO,
    LARGEST_IMAGE_PIXELS,
    PNG_SIGNATURE,
    check_end_of_jpeg,
    check_png_chunks,
    impossible_size,
    refuse_absurd_size,
    refuse_impossible_size,
    refuse_impossible_tiff,
)
from nnmedseg.errors import DataError

SIGNATURES = {
    PNG_SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
# Called by themselves, because Image.open knows one limit of pixels for the whole process.
PILLOW_FILES: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
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
        has_alpha: There was alpha, or a fourth sample, which was left out.
    """

    values: np.ndarray
    bits: int
    lossy: bool = False
    palette: np.ndarray | None = None
    has_alpha: bool = False

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


def decode(content: bytes, path: str | Path, largest: int = LARGEST_IMAGE_PIXELS) -> Samples:
    """Decode the content of an image file.

    Args:
        content: Of the whole file.
        path: For messages.
        largest: Pixels that it may have.

    Raises:
        DataError: It is empty, damaged, truncated, too large, or of no known format.
    """
    kind = image_format(content, path)
    try:
        if kind == "TIFF":
            return _decode_tiff(content, largest)
        return _decode_with_pillow(content, kind, largest)
    except DataError as error:
        raise type(error)(error.what, where=path, mend=error.mend) from error
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise _unreadable(path, error) from error


def size_from_header(file: BinaryIO, path: str | Path) -> tuple[int, int]:
    """Return height and width (px) of an open image file; ``path`` is for messages.

    Raises:
        DataError: It is empty, of no known format, or its header is damaged.
    """
    kind = image_format(file.read(16), path)
    file.seek(0)
    try:
        if kind == "TIFF":
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages.first
                return page.imagelength, page.imagewidth
        with PILLOW_FILES[kind](file) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise _unreadable(path, error) from error


def image_format(content: bytes, path: str | Path) -> str:
    """Return PNG, JPEG, BMP or TIFF, by the first bytes; ``path`` is for messages.

    Raises:
        DataError: It is empty or of no known format.
    """
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


def _decode_with_pillow(content: bytes, kind: str, largest: int) -> Samples:
    bits = 8
    if kind == "PNG":
        bits = _check_png_header(content, largest)
    with PILLOW_FILES[kind](io.BytesIO(content)) as image:
        refuse_absurd_size(image.width, image.height, largest)
        refuse_impossible_size(image, content)
        if kind == "JPEG":
            check_end_of_jpeg(content)
        if bits == 16:  # Pillow keeps only 8 bits of colour images
            values = imagecodecs.png_decode(content)
            return Samples(_without_alpha(values), bits, has_alpha=_has_alpha(values))
        if image.mode == "1":
            return Samples(np.asarray(image, dtype=np.uint8) * np.uint8(255), bits=1)
        if image.mode == "P":
            palette = np.zeros((256, 3), np.uint8)
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours)] = colours
            return Samples(np.asarray(image), bits, palette=palette)
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            return Samples(np.asarray(image.convert("RGB")), bits, lossy=kind == "JPEG")  # CMYK
        values, lossy = np.asarray(image), kind == "JPEG"
        return Samples(_without_alpha(values), bits, lossy, has_alpha=_has_alpha(values))


def _check_png_header(content: bytes, largest: int) -> int:
    """Check that the header can be true and return the bits a sample, which Pillow hides."""
    if content[12:16] != b"IHDR":
        raise ValueError("there is no header")
    width, height, bits, colour_type = struct.unpack_from(">IIBB", content, 16)
    refuse_absurd_size(width, height, largest)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    if width * height * channels * bits > 8 * LARGEST_DEFLATE_RATIO * len(content):
        raise impossible_size(width, height, content)
    check_png_chunks(content)
    return int(bits)


def _has_alpha(values: np.ndarray) -> bool:
    return values.ndim == 3 and values.shape[2] in (2, 4)


def _without_alpha(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        return values
    return values[..., 0] if values.shape[2] <= 2 else values[..., :3]


def _decode_tiff(content: bytes, largest: int) -> Samples:
    # Closing the buffer lets go of the content; tifffile's objects refer to each other and stay.
    with io.BytesIO(content) as file, tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        refuse_absurd_size(page.imagewidth, page.imagelength, largest)
        refuse_impossible_tiff(page, content)
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
    values, has_alpha = page.asarray(), False
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3:
        # Three samples are RGB even where the tag says grey (CVC-ClinicDB).
        has_alpha = _has_alpha(values)
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
    return Samples(values, bits, lossy, has_alpha=has_alpha)
