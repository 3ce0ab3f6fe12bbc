"""Pictures of masks: outlines drawn over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

REFERENCE_COLOUR = (255, 255, 255)
PREDICTION_COLOUR = (0, 200, 255)
CAPTION_HEIGHT = 18


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
    inner = ndimage.binary_erosion(mask, iterations=width, border_value=1)
    drawn = image.copy()
    drawn[mask & ~inner] = colour
    return drawn


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
