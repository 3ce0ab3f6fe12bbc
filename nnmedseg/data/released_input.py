"""Images as a paper's released code feeds them to its network.

Plans say which intensities and which size: those of a model folder made from the authors' weights
under ``released_input``, those of a configuration that trains by the paper's protocol under
``input``. The size is reached whatever the aspect ratio, as in the papers; masks come back at the
image's own size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.intensities import INTENSITIES
from nnmedseg.data.resizing import resize

RELEASED_INPUT = "released_input"

_Pixels = npt.NDArray[np.float32]


def _spline(image: _Pixels, size: Sequence[int]) -> _Pixels:
    from scipy import ndimage  # noqa: PLC0415 - for one paper's CT only

    factors = (1, 1, size[0] / image.shape[2], size[1] / image.shape[3])
    # Where rounding leads past the last sample SciPy fills in a constant; theirs is 0 before the
    # intensities are scaled, which is -1 after it.
    return ndimage.zoom(image, factors, order=3, cval=-1.0)


RESIZINGS: Mapping[str, Callable[[_Pixels, Sequence[int]], _Pixels]] = {
    "bilinear": partial(resize, method="bilinear"),
    "area": partial(resize, method="area"),
    "spline": _spline,
}


def prepare_as_released(
    image: _Pixels,
    properties: Mapping[str, Any],
    *,
    intensity: str,
    resize: str,
    size: Sequence[int],
) -> tuple[_Pixels, dict[str, Any]]:
    """Bring an image to the intensities and the size that a released network was trained with.

    Args:
        image: ``(C, Z, H, W)`` as read; each of the Z slices is an image of its own.
        properties: ``spacing`` of the image.
        intensity: One of `INTENSITIES`.
        resize: One of `RESIZINGS`.
        size: Height and width for the network.

    Returns:
        The network's input ``(C, Z, *size)`` and what nnU-Net's export needs to lead back.
    """
    pixels = RESIZINGS[resize](INTENSITIES[intensity](image), tuple(size))
    return np.ascontiguousarray(pixels, np.float32), {**properties, **uncropped(image.shape[1:])}


def uncropped(shape: Sequence[int]) -> dict[str, Any]:
    """Return what nnU-Net's export needs for an uncropped image ``(Z, H, W)``."""
    return {
        "shape_before_cropping": tuple(shape),
        "bbox_used_for_cropping": [[0, side] for side in shape],
        "shape_after_cropping_and_before_resampling": tuple(shape),
    }
