"""Panels: a few validation images with the outlines of what is there and what is predicted.

They show the same cases each time, so that one epoch can be compared with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from nnmedseg.evaluation.metrics import overlap
from nnmedseg.evaluation.overlay import edges, to_picture

IMAGES = 4
CELL = 400
"""Pixels of the longer side of a picture."""

# Two of Okabe and Ito's colours, which differ for all kinds of colour vision and from skin, mucosa
# and grey tissue.
TRUTH_COLOUR = (240, 228, 66)
PREDICTION_COLOUR = (86, 180, 233)
CASING_COLOUR = (0, 0, 0)

_MARGIN = 8
_LINE = 22
_FONT_SIZE = 14
_TRUTH_REACH, _PREDICTION_REACH = 3.0, 1.5
"""To both sides of an outline, in pixels: one within the other, so that agreement is seen."""

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class PanelCase:
    """What is shown of a case.

    Attributes:
        name: Of the case.
        caption: The name, with the slice of a volume.
        image: A patch as preprocessed, ``(C, Z, H, W)``, filled up with zeros; one slice for a
            network of two dimensions.
        labels: Its labels ``(1, Z, H, W)``.
        plane: Index of the slice that is shown.
        picture: That slice as RGB, ``(H, W, 3)``, without what was filled up.
        truth: Its labels ``(H, W)``.
    """

    name: str
    caption: str
    image: torch.Tensor
    labels: torch.Tensor
    plane: int
    picture: npt.NDArray[np.uint8]
    truth: Labels


def choose(names: Sequence[str], count: int = IMAGES) -> list[str]:
    """Return names evenly spread over all of them in their order."""
    ordered = sorted(names)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    return [ordered[round(place)] for place in places]


def cut_out(name: str, data: Any, labels: Any, patch_size: Sequence[int]) -> PanelCase:
    """Return the part of a preprocessed case that is shown: of a patch's size, around a structure.

    Of a volume it is the slice with most foreground.

    Args:
        name: Of the case.
        data: Image ``(C, Z, H, W)``.
        labels: ``(1, Z, H, W)``, negative outside of the image.
        patch_size: Two or three sides.
    """
    mask = np.maximum(np.asarray(labels[:])[0], 0)
    sides = (1, *patch_size)[-3:]
    depth = int(np.argmax(np.count_nonzero(mask, axis=(1, 2))))
    centre = (depth, *_centre(mask[depth] > 0))
    planes, rows, columns = map(_window, centre, sides, mask.shape)
    image = np.asarray(data[:, planes, rows, columns], np.float32)
    mask_of_patch = mask[planes, rows, columns]
    plane = depth - planes.start
    missing = [(0, side - length) for side, length in zip(sides, mask_of_patch.shape, strict=True)]
    return PanelCase(
        name=name,
        caption=name if len(mask) == 1 else f"{name}, slice {depth + 1} of {len(mask)}",
        image=torch.from_numpy(np.pad(image, [(0, 0), *missing])),
        labels=torch.from_numpy(np.pad(mask_of_patch, missing))[None],
        plane=plane,
        picture=to_picture(image[:, plane]),
        truth=mask_of_patch[plane],
    )


def _centre(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the middle of the box around the foreground, or of the image without any."""
    if not mask.any():
        return mask.shape[0] // 2, mask.shape[1] // 2
    boxes = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    return int(boxes[0][[0, -1]].mean()), int(boxes[1][[0, -1]].mean())


def _window(middle: int, side: int, length: int) -> slice:
    start = min(max(middle - side // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))


def draw_panel(
    title: str, cases: Sequence[PanelCase], predictions: Sequence[Labels]
) -> Image.Image:
    """Return the cases in two columns with a legend above and a caption below each.

    Args:
        title: For instance the epoch.
        cases: What is shown.
        predictions: Labels ``(H, W)`` of each.
    """
    pictures = [_outlined(case, labels) for case, labels in zip(cases, predictions, strict=True)]
    captions = [
        f"{case.caption}   {_score(labels, case.truth)}"
        for case, labels in zip(cases, predictions, strict=True)
    ]
    columns = min(len(pictures), 2)
    rows = -(-len(pictures) // columns)
    width, height = (max(picture.size[axis] for picture in pictures) for axis in (0, 1))
    cell_width, cell_height = width + _MARGIN, height + _LINE + _MARGIN
    sheet = Image.new(
        "RGB", (columns * cell_width + _MARGIN, rows * cell_height + _LINE + 2 * _MARGIN), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    _draw_legend(draw, font, title)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _MARGIN + index % columns * cell_width
        top = _LINE + 2 * _MARGIN + index // columns * cell_height
        sheet.paste(picture, (left + (width - picture.width) // 2, top))
        draw.text((left, top + height + 2), caption, "black", font)
    return sheet


def _draw_legend(draw: ImageDraw.ImageDraw, font: Any, title: str) -> None:
    left, middle = _MARGIN, _MARGIN + _LINE // 2
    draw.text((left, middle), title, "black", font, anchor="lm")
    left += round(draw.textlength(title, font)) + 3 * _MARGIN
    for colour, meaning in ((TRUTH_COLOUR, "truth"), (PREDICTION_COLOUR, "prediction")):
        draw.line((left, middle, left + 24, middle), CASING_COLOUR, 7)
        draw.line((left + 1, middle, left + 23, middle), colour, 4)
        draw.text((left + 30, middle), meaning, "black", font, anchor="lm")
        left += 30 + round(draw.textlength(meaning, font)) + 2 * _MARGIN


def _outlined(case: PanelCase, prediction: Labels) -> Image.Image:
    """Return the enlarged picture with the outlines, the truth's wider and below the other."""
    factor = CELL / max(case.truth.shape)
    height, width = (max(1, round(side * factor)) for side in case.truth.shape)
    enlarged = Image.fromarray(case.picture).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.array(enlarged)
    lines = [
        (_distance_to_edges(labels, (width, height)), reach, colour)
        for labels, reach, colour in (
            (case.truth, _TRUTH_REACH, TRUTH_COLOUR),
            (prediction, _PREDICTION_REACH, PREDICTION_COLOUR),
        )
    ]
    for distance, reach, _ in lines:
        pixels[distance < reach + 1] = CASING_COLOUR
    for distance, reach, colour in lines:
        pixels[distance < reach] = colour
    return Image.fromarray(pixels)


def _distance_to_edges(labels: Labels, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return how far each pixel of the enlarged labels is from an outline."""
    enlarged = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    lines = edges(np.array(enlarged))
    return ndimage.distance_transform_edt(~lines) if lines.any() else np.full(lines.shape, np.inf)


def _score(prediction: Labels, truth: Labels) -> str:
    """Return the Dice over the labels that either has."""
    present = sorted({*np.unique(prediction).tolist(), *np.unique(truth).tolist()} - {0})
    if not present:
        return "nothing there, nothing predicted"
    scores = [overlap(prediction, truth, label).dice for label in present]
    return f"Dice {np.mean(scores):.3f}"
