"""Photographs with the values that nnU-Net reads, but in 8 bits where they have no more.

Its reader turns every image into float32, so that a photograph of 12 megapixels takes 144 MB.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from PIL import Image

from nnmedseg.data.images import decode_image, is_plain_png
from nnmedseg.errors import DataError

JPEG_SIGNATURE = b"\xff\xd8\xff"
SPACING = (999, 1, 1)
"""What nnU-Net reports for every photograph, along z, y and x."""


def read_photograph(files: Sequence[str | Path]) -> np.ndarray:
    """Read the channels of a case, or its label.

    Args:
        files: Grey images of one channel each, or a colour image; their channels in this order.

    Returns:
        (H, W, C), uint8 or float32, with the values of nnU-Net's ``NaturalImage2DIO``.

    Raises:
        DataError: A file cannot be read, or they differ in size.
    """
    images = [_read_plain(Path(file)) for file in files]
    as_uint8 = [image for image in images if image is not None]
    if len(as_uint8) < len(files):
        return _read_with_nnunet(files)
    if len({image.shape[:2] for image in as_uint8}) > 1:
        raise _different_sizes(files)
    return as_uint8[0] if len(files) == 1 else np.concatenate(as_uint8, axis=2)


def _read_plain(path: Path) -> np.ndarray | None:
    """Return an image that every reader reads alike as uint8 (H, W, C), or ``None`` for others."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
    plain = is_plain_png(content, colour=True) or is_plain_png(content, colour=False)
    if not plain and not _is_plain_jpeg(content):
        return None
    image = decode_image(content, path)
    return image if image.ndim == 3 else image[..., None]


def _is_plain_jpeg(content: bytes) -> bool:
    if not content.startswith(JPEG_SIGNATURE):
        return False
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            return image.mode in ("L", "RGB")
    except OSError:
        return False


def _read_with_nnunet(files: Sequence[str | Path]) -> np.ndarray:
    reader = NaturalImage2DIO()
    try:
        channels = [reader.read_images((str(file),))[0] for file in files]
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        raise DataError(f"the image cannot be read: {error}", where=files[0]) from error
    if len({channel.shape[1:] for channel in channels}) > 1:
        raise _different_sizes(files)
    return np.ascontiguousarray(np.moveaxis(np.concatenate(channels)[:, 0], 0, -1))


def _different_sizes(files: Sequence[str | Path]) -> DataError:
    return DataError(
        "the channels of a case differ in size",
        where=files[0],
        mend="convert the data set again, or remove the case",
    )
