"""Images as a paper's released code feeds them to its network, for weights of its authors.

A model folder made from such weights says in its plans, under ``released_input``, which intensities
and which size they were trained with. The size is reached whatever the aspect ratio, as in the
papers; masks come back at the image's own size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

RELEASED_INPUT = "released_input"

_Pixels = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
SYNAPSE_WINDOW = (-125.0, 275.0)  # HU


def _minimum_to_0_maximum_to_255(image: _Pixels) -> _Pixels:
    """RoSPER-Net and ASC-Seg: the image's own range, over its channels together."""
    low = image.min(axis=(0, 2, 3), keepdims=True)
    span = image.max(axis=(0, 2, 3), keepdims=True) - low
    return (255 * (image - low) / np.where(span > 0, span, 1)).astype(np.float32)


def _divided_by_255(image: _Pixels) -> _Pixels:
    """ConDSeg."""
    return image / np.float32(255)


def _imagenet(image: _Pixels) -> _Pixels:
    """ProMISe and HeteroMedSeg's binary sets: ImageNet's mean and deviation."""
    mean = np.array(IMAGENET_MEAN, np.float32).reshape(3, 1, 1, 1)
    deviation = np.array(IMAGENET_DEVIATION, np.float32).reshape(3, 1, 1, 1)
    return (image / np.float32(255) - mean) / deviation


def _synapse(image: _Pixels) -> _Pixels:
    """HeteroMedSeg's Synapse recipe: CT in HU, or its window already scaled to [0, 1]."""
    low, high = SYNAPSE_WINDOW
    is_scaled = image.min() >= 0 and image.max() <= 1
    scaled = image if is_scaled else (image.clip(low, high) - low) / (high - low)
    return ((scaled - 0.5) / 0.5).astype(np.float32)


def _torch_resize(mode: str) -> Callable[[_Pixels, Sequence[int]], _Pixels]:
    def resize(image: _Pixels, size: Sequence[int]) -> _Pixels:
        slices = torch.from_numpy(np.ascontiguousarray(image)).transpose(0, 1)
        resized = functional.interpolate(slices, tuple(size), mode=mode)
        return resized.transpose(0, 1).numpy()

    return resize


def _spline(image: _Pixels, size: Sequence[int]) -> _Pixels:
    factors = (1, 1, size[0] / image.shape[2], size[1] / image.shape[3])
    # Where rounding leads past the last sample SciPy fills in a constant; theirs is 0 before the
    # intensities are scaled, which is -1 after it.
    return ndimage.zoom(image, factors, order=3, cval=-1.0)


INTENSITIES: Mapping[str, Callable[[_Pixels], _Pixels]] = {
    "min_max_255": _minimum_to_0_maximum_to_255,
    "divided_by_255": _divided_by_255,
    "imagenet": _imagenet,
    "synapse": _synapse,
}
RESIZINGS: Mapping[str, Callable[[_Pixels, Sequence[int]], _Pixels]] = {
    "bilinear": _torch_resize("bilinear"),
    "area": _torch_resize("area"),
    "spline": _spline,
}


def prepare_as_released(
    image: _Pixels,
    properties: Mapping[str, Any],
    *,
    intensity: str,
    resize: str,
    size: Sequence[int],
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Bring an image to the intensities and the size that a released network was trained with.

    Args:
        image: ``(C, Z, H, W)`` as read; each of the Z slices is an image of its own.
        properties: ``spacing`` of the image.
        intensity: One of ``INTENSITIES``.
        resize: One of ``RESIZINGS``.
        size: Height and width for the network.

    Returns:
        The network's input ``(C, Z, *size)`` and what nnU-Net's export needs to lead back.
    """
    pixels = RESIZINGS[resize](INTENSITIES[intensity](image), size)
    shape = image.shape[1:]
    back = {
        **properties,
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, side] for side in shape],
        "shape_after_cropping_and_before_resampling": shape,
    }
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)), back
