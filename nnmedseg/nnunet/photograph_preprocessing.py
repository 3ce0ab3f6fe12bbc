"""nnU-Net's preprocessing of photographs of 8 bits, with no more floats than the network is fed.

nnU-Net copies the whole image to float32, normalises it and resizes that. Here each normalisation
is a table of 256 numbers for each channel, which is looked up while rows are resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.intensities import (
    Affine,
    affine_of_channels,
    affine_of_image,
    is_affine,
    measure,
)
from nnmedseg.data.released_input import RELEASED_INPUT, uncropped
from nnmedseg.data.resizing import METHODS, resize, working_shape
from nnmedseg.nnunet.photographs import SPACING

_Colours = npt.NDArray[np.uint8]

_OWN_PREPROCESSORS = ("DefaultPreprocessor", "MedSegPreprocessor", "FastPreprocessor")


LARGE = 2**23
"""Pixels."""


def is_large(height: int, width: int) -> bool:
    """Tell whether a photograph is not turned into float32 as a whole for a prediction.

    What is made of it then differs from nnU-Net's by rounding, and so may the labels of pixels of
    which the network is not sure.
    """
    return height * width > LARGE


def why_not_by_tables(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> str | None:
    """Return what in a configuration is more than a table, or ``None`` if nothing is."""
    given = given_input(configuration)
    if configuration["preprocessor_name"] not in _OWN_PREPROCESSORS:
        return f"the preprocessor {configuration['preprocessor_name']}"
    if list(plans["transpose_forward"]) != [0, 1, 2]:
        return f"the order of axes {plans['transpose_forward']}"
    if "intensity" in given:
        intensity, method = given["intensity"], given["resize"]
        by_tables = is_affine([intensity]) and method in METHODS
        return None if by_tables else f"intensities {intensity!r}, resized by {method!r}"
    if any(configuration["use_mask_for_norm"]):
        return "normalisation within a mask"
    if not is_affine(configuration["normalization_schemes"]):
        return f"normalisation by {', '.join(configuration['normalization_schemes'])}"
    is_resampled = not given and list(configuration["spacing"]) != list(SPACING[1:])
    return f"resampling to a spacing of {configuration['spacing']}" if is_resampled else None


def given_input(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the input that a configuration names, of the project or of released weights."""
    own = configuration.get("nnmedseg", {})
    return own.get(RELEASED_INPUT) or own.get("input") or {}


def normalisation(colours: _Colours, configuration: Mapping[str, Any]) -> Affine:
    """Return how the intensities of an image ``(C, H, W)`` are scaled."""
    given = given_input(configuration)
    statistics = measure(colours)
    if "intensity" in given:
        return affine_of_image(given["intensity"], statistics)
    return affine_of_channels(configuration["normalization_schemes"], statistics)


def preprocess_photograph(
    image: _Colours, properties: Mapping[str, Any], configuration: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Preprocess an image that is only predicted, as nnU-Net does.

    Args:
        image: ``(C, 1, H, W)``.
        properties: ``spacing`` of the image.
        configuration: One for which `why_not_by_tables` finds nothing.

    Returns:
        The network's input ``(C, 1, h, w)`` and what nnU-Net's export needs to lead back.
    """
    given = given_input(configuration)
    colours = image[:, 0]
    back = uncropped(image.shape[1:])
    if "intensity" not in given:
        box = _box_of_content(colours)
        colours = colours[:, box[0], box[1]]
        back["bbox_used_for_cropping"][1:] = [[side.start, side.stop] for side in box]
        back["shape_after_cropping_and_before_resampling"] = (1, *colours.shape[1:])
    size = (int(colours.shape[1]), int(colours.shape[2]))
    if "size" in given:
        size = (given["size"][0], given["size"][1])
    elif given:
        size = working_shape(size, given["shorter_side"])
    scaled = normalisation(colours, configuration)
    tables = scaled.scale[:, None] * np.arange(256) + scaled.offset[:, None]
    method = given.get("resize", "antialiased")
    pixels = resize(colours, size, method, tables=tables.astype(np.float32))
    return pixels[:, None], {**properties, **back}


def _box_of_content(colours: _Colours) -> tuple[slice, slice]:
    """Return the box outside of which every channel is zero; all of it where everything is."""
    rows, columns = (np.flatnonzero(colours.any(axis=(0, axis))) for axis in (2, 1))
    if not len(rows):
        rows, columns = (np.arange(side) for side in colours.shape[1:])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
