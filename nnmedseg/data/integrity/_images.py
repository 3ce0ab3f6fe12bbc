"""Natural images and their labels, checked for what nnU-Net's NaturalImage2DIO makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnmedseg.data._decoding import Samples, decode, image_format
from nnmedseg.data._file_checks import AbsurdSizeError
from nnmedseg.data.integrity._contents import Contents, FileFormat, Finding
from nnmedseg.data.integrity._report import UnusableFileError
from nnmedseg.errors import DataError

FORMATS = {
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}


def read_image(path: Path) -> Contents:
    """Read an image and count its channels as nnU-Net does.

    Raises:
        UnusableFileError: It cannot be decoded.
    """
    samples, name, findings = _decode(path)
    channels = 1 if samples.values.ndim == 2 else 3
    if samples.palette is not None and name == "TIFF":
        what = "nnU-Net reads the indices of its palette in place of the colours: save it as RGB"
        findings.append(("channel-count", what))
    elif samples.palette is not None:
        channels = 3
    if samples.has_alpha:
        channels += 1
        if channels == 2:
            what = "it is grey with alpha, which nnU-Net does not read: save it without alpha"
            findings.append(("channel-count", what))
    values = samples.through_palette()
    return Contents(values, values.shape[:2], channels, tuple(findings))


def read_label(path: Path) -> Contents:
    """Read a label; its values are those that nnU-Net reads if the encoding is right.

    Raises:
        UnusableFileError: It cannot be decoded.
    """
    samples, name, findings = _decode(path)
    values = samples.values
    grid = values.shape[:2]
    if samples.lossy:
        what = "the label is a JPEG, which changes values: make it from the original mask as PNG"
        findings.append(("label-colours", what))
    if samples.palette is not None:
        what = (
            "the label has a palette, of which nnU-Net reads the colours: save its indices as grey "
            "values"
        )
        findings.append(("label-colours", what))
    if samples.has_alpha or values.ndim == 3:
        alpha = " with alpha" if samples.has_alpha else ""
        colours = "in colours" if values.ndim == 3 else "grey"
        what = f"the label is {colours}{alpha}: save one channel with one number a label"
        findings.append(("label-colours", what))
    if values.dtype.kind in "iu" and values.dtype.itemsize > 1:
        bits = 8 * values.dtype.itemsize
        findings.append(("label-16-bit", f"the label has {bits} bits, 8 hold all labels below 256"))
    if values.ndim == 3:
        return Contents(None, grid, findings=tuple(findings))
    return Contents(_as_read(samples, name), grid, findings=tuple(findings))


def difference(first: tuple[int, int], other: tuple[int, int]) -> Finding | None:
    """Say how two sizes (H, W) differ."""
    if first == other:
        return None
    return "size", f"it is {_size(other)} pixels and not {_size(first)}, as the image is"


def _as_read(samples: Samples, name: str) -> np.ndarray:
    """Return grey values as nnU-Net reads them: 1 for white in two colours, TIFF as stored."""
    stretched = samples.bits < 8 and samples.palette is None
    if stretched and (samples.bits == 1 or name == "TIFF"):
        return samples.values // (255 // (2**samples.bits - 1))
    return samples.values


def _decode(path: Path) -> tuple[Samples, str, list[Finding]]:
    """Return the samples, the name of the format, and what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableFileError("damaged", f"the file cannot be read: {error.strerror}") from error
    if not content:
        raise UnusableFileError("empty", "the file is empty")
    try:
        name = image_format(content, path)
    except DataError as error:
        raise UnusableFileError("wrong-format", error.what) from error
    expected = FORMATS.get(path.suffix.lower(), name)
    findings = []
    if name != expected:
        what = f"the file holds a {name} image under the ending {path.suffix}: convert it"
        findings.append(("wrong-format", what))
    try:
        return decode(content, path), name, findings
    except AbsurdSizeError as error:
        raise UnusableFileError("absurd-size", error.what) from error
    except DataError as error:
        raise UnusableFileError("damaged", error.what) from error


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"


NATURAL_IMAGES = FileFormat(read_image, read_label, difference)
