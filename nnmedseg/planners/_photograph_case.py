"""The preprocessed bytes of one photograph, without the floats that nnU-Net makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.class_locations import classes_to_locate, sample_locations
from nnmedseg.data.resizing import resize_labels, resize_to_8_bits, working_shape
from nnmedseg.data.store import write_case
from nnmedseg.errors import DataError
from nnmedseg.nnunet.photograph_preprocessing import normalisation
from nnmedseg.nnunet.photographs import SPACING, read_photograph

_Colours = npt.NDArray[np.uint8]
_Labels = npt.NDArray[np.integer]

OUTSIDE = -1
"""nnU-Net's label of background pixels that are zero in every channel."""


def write_photograph_case(
    target: Path,
    case: Mapping[str, Any],
    configuration: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
) -> None:
    """Preprocess a photograph of 8 bits and write it to :mod:`nnmedseg.data.store`.

    Args:
        target: The file.
        case: ``images``, one path a channel or one for all, and ``label``, as nnU-Net lists them.
        configuration: Of the plans.
        dataset_json: The data set's description.

    Raises:
        DataError: A file cannot be read, or they do not fit each other, the description or 8 bits.
    """
    colours, labels = _read(case, dataset_json)
    shape = labels.shape
    given = configuration["nnmedseg"].get("input", {})
    box = (slice(0, shape[0]), slice(0, shape[1]))
    if "intensity" not in given:
        box = _without_black_border(colours, labels)
        colours, labels = colours[:, box[0], box[1]], labels[box]
    properties = {
        "spacing": SPACING,
        "shape_before_cropping": (1, *shape),
        "bbox_used_for_cropping": [[0, 1], *([side.start, side.stop] for side in box)],
        "shape_after_cropping_and_before_resampling": (1, *labels.shape),
    }
    scaled = normalisation(colours, configuration)
    if "size" in given:
        height, width = given["size"]
        colours = resize_to_8_bits(colours, (height, width), given["resize"])
        labels = resize_labels(labels, (height, width))
    elif given:
        size = working_shape(labels.shape, given["shorter_side"])
        colours, labels = resize_to_8_bits(colours, size), resize_labels(labels, size)
    write_case(
        target,
        colours,
        labels,
        normalisation=scaled,
        properties=properties,
        locations=sample_locations(labels, classes_to_locate(dataset_json["labels"])),
    )


def _read(case: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> tuple[_Colours, _Labels]:
    """Return colours ``(C, H, W)`` and labels ``(H, W)``."""
    colours = _read_colours(case["images"], len(dataset_json["channel_names"]))
    labels = read_photograph([case["label"]])
    if colours.shape[1:] != labels.shape[:2] or labels.shape[2] != 1:
        raise DataError(
            f"a mask of {labels.shape} does not fit an image of {colours.shape[1:]}",
            where=case["label"],
            mend="convert the data set again, or remove the case",
        )
    return colours, labels[..., 0].astype(np.int16)


def _read_colours(files: Sequence[str | Path], channels: int) -> _Colours:
    image = read_photograph(files)
    if image.shape[2] != channels:
        raise DataError(
            f"the image has {image.shape[2]} channels, dataset.json names {channels}",
            where=files[0],
            mend="convert the data set again, or remove the case",
        )
    return np.ascontiguousarray(np.moveaxis(_as_bytes(image, files[0]), -1, 0))


def _as_bytes(image: npt.NDArray[Any], path: str | Path) -> _Colours:
    if image.dtype == np.uint8:
        return image
    exact = image.astype(np.uint8)
    if not np.array_equal(exact, image):
        raise DataError(
            "the image holds more than 8 bits, unlike those that the plan was made for",
            where=path,
            mend="run nnmedseg_plan_and_preprocess again, which plans for the images as they are",
        )
    return exact


def _without_black_border(colours: _Colours, labels: _Labels) -> tuple[slice, slice]:
    """Return the box outside of which every channel is zero; mark such background pixels.

    In an image of one slice no pixel is enclosed, so that nnU-Net fills no holes.
    """
    black = colours[0] == 0
    for channel in colours[1:]:
        black &= channel == 0
    rows, columns = (np.flatnonzero(~black.all(axis=axis)) for axis in (1, 0))
    if not len(rows):
        rows, columns = (np.arange(side) for side in labels.shape)
    black &= labels == 0
    labels[black] = OUTSIDE
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
