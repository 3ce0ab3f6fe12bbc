"""Writing a case of 2D images: a photograph or a grey image as PNG, its mask as PNG of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from nnmedseg.data.duplicates import signature
from nnmedseg.data.images import (
    LabelImage,
    decode_image,
    decode_labels,
    decode_mask,
    is_plain_png,
    to_grey,
    to_rgb,
    write_png,
)
from nnmedseg.dataset_conversion._case_files import (
    Record,
    SourceFile,
    Targets,
    take_over,
)
from nnmedseg.dataset_conversion._label_counts import describe_labels
from nnmedseg.dataset_conversion.base import DatasetConverter
from nnmedseg.errors import DataError

Decoded = TypeVar("Decoded")

DICOM_ENDINGS = (".dcm", ".ima")


def write_image_case(
    converter: DatasetConverter,
    images: Sequence[SourceFile],
    masks: Sequence[SourceFile],
    to: Targets,
) -> tuple[Record, list[str]]:
    """Write an image as RGB or grey PNG, and its mask (the union of several) as PNG of labels.

    Returns:
        What the record says beyond the files, and all problems; with problems nothing is written.
    """
    problems: list[str] = []
    (source,) = images
    pixels = _try_decoding(_decode_image, source, converter, problems)
    labels, in_between = None, 0
    record: Record = {}
    for mask in masks:
        decoded = _try_decoding(_decode_mask, mask, converter, problems)
        if decoded is None or pixels is None:
            continue
        values = decoded.labels
        if values.shape != pixels.shape[:2]:
            if not converter.options.resize_masks:
                problems.append(
                    f"{source.name} is {_size(pixels)} (width x height) but its mask {mask.name} "
                    f"is {_size(values)} (--resize-masks would fit the mask to the image)"
                )
                continue
            record["mask_resized_from"] = list(values.shape)
            values = resize_nearest(values, pixels.shape[:2])
        labels = values if labels is None else np.maximum(labels, values)
        in_between += decoded.in_between
    if problems or pixels is None:
        return {}, problems
    record |= describe_image(pixels)
    if labels is not None and to.mask is not None:
        record |= describe_labels(labels)
        if in_between:
            record["in_between_pixels"] = in_between
        if len(masks) == 1 and decoded is not None and decoded.as_stored and values is labels:
            take_over(masks[0], to.mask)
        else:
            write_png(labels, to.mask, durable=False)
    _write_image(pixels, source, converter, to)
    return record, []


def describe_image(pixels: np.ndarray) -> Record:
    """Return size (height, width; px), signature, and whether an image has two values only."""
    record: Record = {
        "image_size": list(pixels.shape[:2]),
        "signature": signature(pixels).to_dict(),
    }
    if np.unique(pixels[::16, ::16]).size <= 2 and np.unique(pixels).size <= 2:
        record["two_valued"] = True
    return record


def resize_nearest(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bring labels (H, W) to another size; each pixel takes the label at its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def _decode_image(source: SourceFile, converter: DatasetConverter) -> np.ndarray:
    if source.path.suffix.casefold() in DICOM_ENDINGS:
        if converter.window is None:
            raise DataError("a DICOM file among photographs")
        return _through_window(_dicom_values(source), converter.window)
    pixels = decode_image(source.content, source.path)
    return to_rgb(pixels) if converter.content == "rgb" else to_grey(pixels, source.path)


def _decode_mask(source: SourceFile, converter: DatasetConverter) -> LabelImage:
    if source.path.suffix.casefold() in DICOM_ENDINGS:
        return LabelImage((_dicom_values(source) > 0).astype(np.uint8))
    if converter.label_values is not None:
        return decode_labels(source.content, source.path, converter.label_values)
    mask = decode_mask(source.content, source.path)
    is_stored = mask.top <= 1 and is_plain_png(source.content, colour=False)
    return LabelImage(mask.pixels.view(np.uint8), mask.in_between, as_stored=is_stored)


def _dicom_values(source: SourceFile) -> np.ndarray:
    from nnmedseg.data.slices import read_dicom_slice  # noqa: PLC0415 - see ``_writing``

    return read_dicom_slice(source.path).values


def _through_window(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    lowest, highest = window
    scaled = (values - lowest) * (255 / (highest - lowest))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _write_image(
    pixels: np.ndarray, source: SourceFile, converter: DatasetConverter, to: Targets
) -> None:
    if is_plain_png(source.content, colour=converter.content == "rgb"):
        take_over(source, to.images[0])
    else:
        write_png(pixels, to.images[0], durable=False)


def _try_decoding(
    decode: Callable[[SourceFile, DatasetConverter], Decoded],
    source: SourceFile,
    converter: DatasetConverter,
    problems: list[str],
) -> Decoded | None:
    try:
        return decode(source, converter)
    except DataError as error:
        problems.append(f"{source.name}: {error.what}")
        return None


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
