"""How much memory it takes to read and preprocess a case, from the headers of its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnmedseg.data.images import image_size
from nnmedseg.data.resizing import working_shape
from nnmedseg.data.simple_itk import read_header
from nnmedseg.data.volumes import volume_ending
from nnmedseg.errors import DataError
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.nnunet.photograph_preprocessing import given_input, is_large, why_not_by_tables

if TYPE_CHECKING:
    from nnmedseg.inference.predictor import MedSegPredictor

_FLOAT32 = 4
_FLOAT64 = 8
_COLOURS = 3


def estimate_memory(case: InputCase, predictor: MedSegPredictor) -> int | None:
    """Return about how many bytes are taken at most while a case is read and preprocessed.

    Only headers are read. What the network and its output take comes on top.

    Returns:
        ``None`` where the headers do not tell: reading will say what is wrong with them.
    """
    stored = sum(path.stat().st_size for path in case.files if path.is_file())
    try:
        if case.series or volume_ending(case.files[0]):
            return _of_volume(case, predictor, stored)
        return _of_picture(image_size(case.files[0]), predictor, stored)
    except (DataError, RuntimeError, OSError):
        return None


def _of_picture(size: tuple[int, int], predictor: MedSegPredictor, stored: int) -> int:
    configuration = predictor.configuration_manager.configuration
    pixels = math.prod(size)
    by_tables = why_not_by_tables(predictor.plans_manager.plans, configuration) is None
    floats = _FLOAT32 * predictor.channels * pixels
    if not predictor.takes_pictures:
        return stored + 3 * floats
    if not (by_tables and is_large(*size)):
        return predictor.channels * pixels + 2 * floats
    given = given_input(configuration)
    if "size" in given:
        size = (given["size"][0], given["size"][1])
    elif given:
        size = working_shape(size, given["shorter_side"])
    reading = max(stored, _COLOURS * pixels) + _COLOURS * pixels
    image = predictor.channels * pixels
    return max(reading, image + _FLOAT32 * predictor.channels * math.prod(size))


def _of_volume(case: InputCase, predictor: MedSegPredictor, stored: int) -> int:
    """Count the image as read, nnU-Net's copy of it, and what resampling makes of both."""
    shape, spacing = _grid_of(case)
    voxels = math.prod(shape)
    wanted = _resampled_shape(shape, spacing, predictor)
    image = _FLOAT32 * predictor.channels * voxels
    resampled = _FLOAT32 * predictor.channels * math.prod(wanted)
    splines = _FLOAT64 * (voxels + math.prod(wanted)) if tuple(wanted) != tuple(shape) else 0
    return max(stored + 2 * image, 2 * image + voxels + resampled + splines)


def _grid_of(case: InputCase) -> tuple[list[int], list[float]]:
    """Return slices, height and width, and their spacing in mm."""
    header = read_header(case.files[0])
    size, spacing = list(header.size[:3]), list(header.spacing[:3])
    size += [1] * (3 - len(size))
    spacing += [1.0] * (3 - len(spacing))
    if case.series:
        size[2] = len(case.series[0])
    return size[::-1], spacing[::-1]


def _resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], predictor: MedSegPredictor
) -> list[int]:
    if predictor.is_natural:
        return list(shape)
    order = predictor.axes
    own: list[Any] = [spacing[axis] for axis in order]
    target = list(predictor.configuration_manager.spacing)
    target = [own[0], *target][-3:]
    return [int(side) for side in compute_new_shape([shape[axis] for axis in order], own, target)]
