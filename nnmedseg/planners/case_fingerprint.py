"""What the fingerprint needs to know of one training case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from PIL import Image

from nnmedseg.data.components import region_spans
from nnmedseg.data.fingerprint import Distribution
from nnmedseg.errors import DataError
from nnmedseg.nnunet._volume_files import read_images, read_labels
from nnmedseg.nnunet.photographs import SPACING, read_photograph

PIXELS_AT_ONCE = 2**18
"""Whose colours stay in the processor's cache while they are counted."""
MOST_SPANS = 32
"""Of a label in a case that are kept; of more, that many quantiles."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class CaseFingerprint:
    """Measurements of a case.

    Attributes:
        shape: (Z, Y, X) before cropping.
        cropped_shape: (Z, Y, X) without borders that are zero in every channel.
        spacing: Along z, y and x.
        foreground: Intensities of each channel where the label is above zero.
        foreground_share: Pixels of ``labels`` of all pixels.
        eight_bit: It is a photograph of whole numbers from 0 to 255.
        spans: Of photographs, by label, the spans of its regions in pixels.
        colours: Of photographs, mean and mean square of each channel.
    """

    shape: tuple[int, ...]
    cropped_shape: tuple[int, ...]
    spacing: tuple[float, ...]
    foreground: list[Distribution | None]
    foreground_share: float
    eight_bit: bool = False
    spans: dict[int, list[float]] = field(default_factory=dict)
    colours: list[tuple[float, float]] = field(default_factory=list)


def measure_photograph(case: Mapping[str, Any], ignored: int | None = None) -> CaseFingerprint:
    """Measure a photograph and its label map.

    Args:
        case: The files of its ``"images"`` and of its ``"label"``.
        ignored: The label of what is not annotated, where there is one. As in nnU-Net's
            fingerprint its intensities count, but it is no foreground of any size.

    Raises:
        DataError: A file cannot be read, they differ in size, or hold what is not a number.
    """
    image = read_photograph(case["images"])
    label_map = read_photograph([case["label"]])[..., 0]
    _refuse_other_grid(image[..., 0], label_map, case["label"])
    if label_map.dtype != np.uint8:
        label_map = label_map.astype(np.int32)
    shape = label_map.shape
    box = nonzero_box([image], axes=2)
    image, label_map = image[box], label_map[box]
    everything, foreground = _intensities(image, label_map)
    _refuse_non_finite(everything, case["images"][0])
    spans = {label: _some(found) for label, found in region_spans(label_map).items()}
    return CaseFingerprint(
        shape=(1, *shape),
        cropped_shape=(1, *label_map.shape),
        spacing=SPACING,
        foreground=foreground,
        foreground_share=_share_of_foreground(label_map, ignored, shape[0] * shape[1]),
        eight_bit=all(its.whole and its.lowest >= 0 and its.highest <= 255 for its in everything),
        spans={label: found for label, found in spans.items() if label != ignored},
        colours=[(its.mean, its.mean_square) for its in everything],
    )


def measure_volume(
    reader: BaseReaderWriter, case: Mapping[str, Any], ignored: int | None = None
) -> CaseFingerprint:
    """Measure a volume and its label map, as nnU-Net reads them; see ``measure_photograph``."""
    try:
        image, properties = read_images(reader, case["images"])
        label_map = read_labels(reader, case["label"])
    except DataError:
        raise
    except Exception as error:  # readers raise errors of many kinds for damaged files
        raise DataError(
            f"an image or its label cannot be read: {error}",
            where=case["label"],
            mend="convert the data set again, or remove the case",
        ) from error
    label_map = label_map[0]
    _refuse_other_grid(image[0], label_map, case["label"])
    box = nonzero_box(list(image), axes=3)
    above_zero = label_map[box] > 0
    foreground = [Distribution.of_pixels(channel[box][above_zero]) for channel in image]
    _refuse_non_finite(foreground, case["images"][0])
    return CaseFingerprint(
        shape=label_map.shape,
        cropped_shape=above_zero.shape,
        spacing=tuple(float(side) for side in properties["spacing"]),
        foreground=foreground,
        foreground_share=_share_of_foreground(label_map[box], ignored, label_map.size),
    )


def nonzero_box(channels: Sequence[np.ndarray], axes: int) -> Box:
    """Return the box to which nnU-Net crops: where any channel is not zero.

    It fills the holes of that mask before it takes the box, which does not change the box.

    Args:
        channels: Arrays of one shape.
        axes: How many of their leading axes are those of the image.

    Returns:
        A slice for each of these axes; all of it where everything is zero.
    """
    box: Box = ()
    for axis in range(axes):
        # Each axis is moved to the front in turn, cut to what the axes before have left.
        cut = [np.moveaxis(channel[box], axis, 0) for channel in channels]
        filled = (index for index in range(len(cut[0])) if any(its[index].any() for its in cut))
        first = next(filled, None)
        if first is None:
            return (slice(None),) * axes
        last = next(
            index for index in reversed(range(len(cut[0]))) if any(its[index].any() for its in cut)
        )
        box = (*box, slice(first, last + 1))
    return box


def _intensities(
    image: np.ndarray, label_map: np.ndarray
) -> tuple[list[Distribution], list[Distribution | None]]:
    """Return the distributions of all pixels and of the foreground, for each channel."""
    channels = range(image.shape[2])
    if image.dtype == np.uint8:
        counts = [_count_colours(image[..., channel], label_map) for channel in channels]
        everything = [Distribution.of_counts(whole) for whole, _ in counts]
        foreground = [Distribution.of_counts(part) for _, part in counts]
    else:
        above_zero = label_map > 0
        everything = [Distribution.of_pixels(image[..., channel].ravel()) for channel in channels]
        foreground = [
            Distribution.of_pixels(image[..., channel][above_zero]) for channel in channels
        ]
    return [its for its in everything if its is not None], foreground


def _count_colours(pixels: np.ndarray, label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count each number of a uint8 channel, in all of it and in the foreground."""
    whole, foreground = np.zeros(256, np.int64), np.zeros(256, np.int64)
    rows = max(1, PIXELS_AT_ONCE // pixels.shape[1])
    for start in range(0, len(pixels), rows):
        strip = Image.fromarray(pixels[start : start + rows])
        above_zero = label_map[start : start + rows] > 0
        whole += strip.histogram()
        if above_zero.any():
            foreground += strip.histogram(Image.fromarray(above_zero.view(np.uint8)))
    return whole, foreground


def _share_of_foreground(label_map: np.ndarray, ignored: int | None, pixels: int) -> float:
    count = np.count_nonzero(label_map)
    if ignored is not None:
        count -= np.count_nonzero(label_map == ignored)
    return float(count / pixels)


def _some(spans: np.ndarray) -> list[float]:
    """Return all spans or, of many, evenly spaced quantiles."""
    if len(spans) > MOST_SPANS:
        ranks = (np.arange(MOST_SPANS) + 0.5) / MOST_SPANS
        spans = spans[(ranks * len(spans)).astype(np.int64)]
    return [round(float(span), 2) for span in spans]


def _refuse_other_grid(image: np.ndarray, label_map: np.ndarray, where: str) -> None:
    if image.shape != label_map.shape:
        raise DataError(
            f"the image has {_text(image.shape)} pixels and its label {_text(label_map.shape)}",
            where=where,
            mend="convert the data set again, or remove the case",
        )


def _refuse_non_finite(distributions: Sequence[Distribution | None], where: str) -> None:
    if not all(np.isfinite(its.mean) for its in distributions if its is not None):
        raise DataError(
            "the image holds values that are not numbers, or infinite ones",
            where=where,
            mend="repair the image, or remove the case",
        )


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
