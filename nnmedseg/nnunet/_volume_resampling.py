"""nnU-Net's resampling function with its default settings, faster and with equal results."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

import numpy as np
from batchgenerators.augmentations.utils import resize_segmentation
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

HAVE_KERNELS = find_spec("numba") is not None
"""numba is not there for the newest Python."""
FUNCTION = "resample_data_or_seg_to_shape"
IMAGE_SETTINGS = {"is_seg": False, "order": 3, "order_z": 0}
LABEL_SETTINGS = {"is_seg": True, "order": 1, "order_z": 0}
LABELS_BY_LARGEST_SCORE = "seg_tiebreak" in inspect.signature(resize_segmentation).parameters
"""Whether batchgenerators gives each voxel its best label; older ones use a threshold of 0.5."""


def resample_images(
    data: np.ndarray,
    shape: np.ndarray,
    spacing: list[float],
    new_spacing: list[float],
    configuration: ConfigurationManager,
) -> np.ndarray:
    """Return what the configuration's ``resampling_fn_data`` returns.

    Args:
        data: (C, Z, Y, X) float32.
        shape: New size.
        spacing: Of the data, (z, y, x).
        new_spacing: Of the result.
        configuration: Names the function; another than nnU-Net's default is called itself.
    """
    if data.shape[1:] == tuple(shape):
        return data
    settings = configuration.configuration["resampling_fn_data_kwargs"]
    name = configuration.configuration["resampling_fn_data"]
    usual = _is_usual(name, settings, IMAGE_SETTINGS) and data.dtype == np.float32
    if not (usual and shape.all()):
        return configuration.resampling_fn_data(data, shape, spacing, new_spacing)
    # compiled loops, and what they need, are loaded where a volume is resampled
    from nnmedseg.nnunet._cubic_resampling import (  # noqa: PLC0415
        resize_cubic,
        resize_cubic_slices,
    )

    axis = _slice_axis(settings, spacing, new_spacing)
    size = tuple(shape.tolist())
    out = np.empty((len(data), *size), np.float32)
    for volume, resized in zip(data, out, strict=True):
        if axis is None:
            resize_cubic(volume, size, resized)
        else:
            moved = np.moveaxis(resized, axis, 0)
            resize_cubic_slices(np.moveaxis(volume, axis, 0), moved.shape, moved)
    return out


def resample_labels(
    labels: np.ndarray,
    shape: np.ndarray,
    spacing: list[float],
    new_spacing: list[float],
    configuration: ConfigurationManager,
) -> np.ndarray:
    """Return what the configuration's ``resampling_fn_seg`` returns, for labels (1, Z, Y, X)."""
    if labels.shape[1:] == tuple(shape):
        return labels
    settings = configuration.configuration["resampling_fn_seg_kwargs"]
    name = configuration.configuration["resampling_fn_seg"]
    if not (_is_usual(name, settings, LABEL_SETTINGS) and LABELS_BY_LARGEST_SCORE and shape.all()):
        return configuration.resampling_fn_seg(labels, shape, spacing, new_spacing)
    from nnmedseg.nnunet._label_resampling import resize_labels  # noqa: PLC0415 - as above

    axis = _slice_axis(settings, spacing, new_spacing)
    return resize_labels(labels[0], tuple(shape.tolist()), axis)[None]


def _is_usual(name: str, settings: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Say whether a plan names the function and settings that the kernels repeat."""
    others = {key: value for key, value in settings.items() if key != "force_separate_z"}
    return HAVE_KERNELS and name == FUNCTION and others == expected


def _slice_axis(
    settings: dict[str, Any], spacing: list[float], new_spacing: list[float]
) -> int | None:
    """Return the axis along which slices are too far apart to interpolate between them."""
    force = settings.get("force_separate_z", False)
    _, axis = determine_do_sep_z_and_axis(force, spacing, new_spacing)
    return None if axis is None else int(axis)
