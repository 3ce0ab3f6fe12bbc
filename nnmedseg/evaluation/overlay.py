"""Pictures of masks: outlines drawn over the image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

REFERENCE_COLOUR = (255, 255, 255)
PREDICTION_COLOUR = (0, 200, 255)
CAPTION_HEIGHT = 18

# Okabe and Ito's colours without black: they differ for all kinds of colour vision.
FIRST_LABEL_COLOURS = (
    (86, 180, 233),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
)
GOLDEN_RATIO = (5**0.5 - 1) / 2
_PERCENTILES = (0.5, 99.5)


def to_picture(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return ``(C, H, W)`` of any scale as RGB ``(H, W, 3)``.

    Three channels are colours; of any other number the first one is shown in grey.
    """
    channels = image if len(image) == 3 else image[:1]
    low, high = np.percentile(channels, _PERCENTILES, axis=(1, 2))[..., None, None]
    scaled = (channels - low) / np.maximum(high - low, 1e-6)
    bytes_ = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
    return np.moveaxis(np.broadcast_to(bytes_, (3, *image.shape[1:])), 0, -1)


def edges(labels: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of structures ``(H, W)`` that touch another label.

    The border of the image is no label.
    """
    differs = np.zeros(labels.shape, np.bool_)
    change = labels[1:] != labels[:-1]
    differs[:-1] |= change
    differs[1:] |= change
    change = labels[:, 1:] != labels[:, :-1]
    differs[:, :-1] |= change
    differs[:, 1:] |= change
    return differs & (labels > 0)


def outline(
    labels: npt.NDArray[np.integer] | npt.NDArray[np.bool_], width: int = 2
) -> npt.NDArray[np.bool_]:
    """Return the outlines of structures ``(H, W)``, inside of them and ``width`` pixels wide."""
    lines = edges(labels)
    for _ in range(width - 1):
        lines = ndimage.binary_dilation(lines) & (labels > 0)
    return lines


def draw_outline(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    colour: tuple[int, int, int],
    width: int = 2,
) -> npt.NDArray[np.uint8]:
    """Return a copy of an RGB image ``(H, W, 3)`` with the outline of a mask ``(H, W)``.

    Args:
        image: RGB image.
        mask: What to outline.
        colour: RGB, 0 to 255.
        width: Width of the line in pixels, inside the mask.
    """
    drawn = image.copy()
    drawn[outline(mask, width)] = colour
    return drawn


def draw_labels(
    image: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], width: int = 2
) -> npt.NDArray[np.uint8]:
    """Return a copy of an RGB image with the outline of each label in a colour of its own.

    Args:
        image: ``(H, W, 3)``.
        labels: ``(H, W)``, 0 is background.
        width: Width of the lines in pixels, inside the structures.
    """
    lines = outline(labels, width)
    on_lines = labels[lines].astype(np.int64)
    colours = np.array(label_colours(int(on_lines.max(initial=0))), np.uint8).reshape(-1, 3)
    drawn = image.copy()
    drawn[lines] = colours[on_lines - 1]
    return drawn


def label_colours(count: int) -> list[tuple[int, int, int]]:
    """Return the colours (RGB) of the labels from 1 to ``count``, each its own."""
    colours = list(FIRST_LABEL_COLOURS[:count])
    for index in range(len(colours), count):
        # Steps of the golden ratio leave the largest gaps between any number of hues.
        hue = index * GOLDEN_RATIO % 1
        saturation, value = (1.0, 0.6)[index % 2], (1.0, 0.75, 0.5)[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def contact_sheet(
    pictures: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str],
    columns: int = 4,
    cell: tuple[int, int] = (240, 180),
) -> Image.Image:
    """Return one picture with all pictures in a grid, each with its caption below.

    Args:
        pictures: RGB images of any size.
        captions: One for each.
        columns: Pictures in a row.
        cell: Width and height of a picture in pixels; the aspect ratio is kept.
    """
    width, height = cell
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + CAPTION_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = index % columns * width
        top = index // columns * (height + CAPTION_HEIGHT)
        picture = Image.fromarray(pixels)
        picture.thumbnail((width - 4, height - 4))
        sheet.paste(picture, (left + (width - picture.width) // 2, top + 2))
        draw.text((left + 4, top + height + 2), caption, fill="black")
    return sheet
