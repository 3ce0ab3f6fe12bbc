"""Pictures to look a prediction over: outlines of the labels over the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.images import write_png
from nnmedseg.data.resizing import resize, resize_labels, resize_to_8_bits
from nnmedseg.evaluation.overlay import contact_sheet, draw_labels, to_picture
from nnmedseg.inference.inputs.cases import LoadedCase

OVERLAY_ENDING = "_overlay.png"

LARGEST_SIDE = 4096
"""Pixels of the longer side of an overlay: larger images are shown smaller."""

SLICES = 6
COLUMNS = 3
CELL = 360
"""Pixels of the longer side of each slice."""

_PIXELS_A_LINE = 400
"""An image whose longer side is this long gets lines of one pixel, larger ones wider lines."""
_NARROWEST_LINE = 2

Labels = npt.NDArray[np.integer]


def write_overlay(labels: Labels, path: Path, loaded: LoadedCase) -> None:
    """Write the outlines of a label map over its image as PNG.

    Of a volume a few slices that hold structures are shown, in one picture.

    Args:
        labels: ``(Z, H, W)``.
        path: Ends in ``.png``.
        loaded: The image, on the same pixels.
    """
    write_png(draw_overlay(labels, loaded), path)


def draw_overlay(labels: Labels, loaded: LoadedCase) -> npt.NDArray[np.uint8]:
    """Return what `write_overlay` writes, RGB ``(H, W, 3)``."""
    depth = len(labels)
    if depth == 1:
        return _draw_image(loaded.image[:, 0], labels[0])
    chosen = choose_slices(labels)
    _, height, width = (float(side) for side in loaded.properties["spacing"])
    pictures = [_draw_slice(loaded.image[:, z], labels[z], height / width) for z in chosen]
    captions = [f"slice {z + 1} of {depth}" for z in chosen]
    return np.array(contact_sheet(pictures, captions, COLUMNS, (CELL + 4, CELL + 4)))


def choose_slices(labels: Labels, count: int = SLICES) -> list[int]:
    """Return slices evenly spread over those that hold a structure, or over all if none does."""
    holding = np.flatnonzero(labels.any(axis=(1, 2)))
    candidates = holding if len(holding) else np.arange(len(labels))
    places = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
    return [int(candidates[round(place)]) for place in places]


def _draw_image(image: npt.NDArray[Any], labels: Labels) -> npt.NDArray[np.uint8]:
    factor = min(1.0, LARGEST_SIDE / max(labels.shape))
    height, width = (max(1, round(side * factor)) for side in labels.shape)
    size = (height, width)
    if image.dtype == np.uint8:
        picture = _as_rgb(resize_to_8_bits(image, size))
    else:
        picture = to_picture(resize(image, size))
    line = max(_NARROWEST_LINE, round(max(size) / _PIXELS_A_LINE))
    return draw_labels(picture, resize_labels(labels, size), line)


def _draw_slice(image: npt.NDArray[Any], labels: Labels, stretch: float) -> npt.NDArray[np.uint8]:
    """Draw one slice as large as its cell, with pixels as high as they are in the patient."""
    sides = np.array([labels.shape[0] * stretch, labels.shape[1]])
    height, width = (max(1, round(side)) for side in (sides * CELL / sides.max()).tolist())
    picture = to_picture(resize(image, (height, width)))
    return draw_labels(picture, resize_labels(labels, (height, width)))


def _as_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return ``(C, H, W)`` as ``(H, W, 3)``: colours, or the first channel in grey."""
    channels = image if len(image) == 3 else image[:1]
    return np.moveaxis(np.broadcast_to(channels, (3, *image.shape[1:])), 0, -1)
