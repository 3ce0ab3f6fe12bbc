"""nnU-Net's rotation and scaling of images, done while a patch is cut out.

nnU-Net cuts out a patch large enough for any rotation and samples a smaller one from it. What will
be done can be drawn before anything is read. Then most patches need no more than their own pixels,
and the others are sampled in one pass, of image and labels, without a grid of coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

HAVE_KERNELS = find_spec("numba") is not None
"""numba is not there for the newest Python."""

_Bounds = tuple[int, int]
_SETTINGS = {
    "random_crop": False,
    "p_elastic_deform": 0,
    "mode_image": "bilinear",
    "padding_mode_image": "zeros",
    "mode_seg": "bilinear",
    "border_mode_seg": "constant",
    "align_corners": False,
    "seg_tiebreak": "nearest",
}
"""Of nnU-Net's trainers, which alone this is made for."""


class Draw(NamedTuple):
    """Where a patch comes from.

    Attributes:
        rows: Of the initial patch that are needed.
        columns: Of the initial patch that are needed.
        to_source: Row and column of the initial patch from row, column and 1 of the final patch,
            ``(2, 3)``, or ``None`` where the needed part is the final patch.
    """

    rows: _Bounds
    columns: _Bounds
    to_source: npt.NDArray[np.float64] | None


class QuickSpatial(SpatialTransform):
    """Draws as nnU-Net's transform of images does, from the same generator, and samples itself."""

    @classmethod
    def of(cls, transform: BasicTransform) -> QuickSpatial | None:
        """Return a quick one with the settings of a transform, or ``None`` for other kinds."""
        if (
            not HAVE_KERNELS
            or type(transform) is not SpatialTransform
            or len(transform.patch_size) != 2
            or any(getattr(transform, key, None) != value for key, value in _SETTINGS.items())
        ):
            return None
        quick = cls.__new__(cls)
        quick.__dict__.update(transform.__dict__)
        return quick

    def _get_base_grid_clone(self) -> torch.Tensor:
        return torch.zeros(1, 1, 2)  # only the drawn matrix is wanted, not where each pixel goes

    def draw(self, channels: int, initial_size: Sequence[int]) -> Draw:
        """Draw what is done to a sample.

        Args:
            channels: Of the image.
            initial_size: Height and width of the initial patch, at least those of the final one.
        """
        shape = torch.empty((channels, *initial_size), device="meta")
        affine = self.get_parameters(image=shape)["affine"]
        size = [int(side) for side in self.patch_size]
        if affine is None:
            starts = [
                whole // 2 - side // 2 for whole, side in zip(initial_size, size, strict=True)
            ]
            rows, columns = (
                (start, start + side) for start, side in zip(starts, size, strict=True)
            )
            return Draw(rows, columns, None)
        centre = (np.array(size) - 1) / 2
        shift = (np.array(initial_size) - 1) / 2 - affine @ centre
        reach = np.abs(affine) @ centre
        middle = affine @ centre + shift
        rows, columns = (
            (max(math.floor(low), 0), min(math.floor(high) + 2, whole))
            for low, high, whole in zip(middle - reach, middle + reach, initial_size, strict=True)
        )
        return Draw(rows, columns, np.column_stack([affine, shift]))

    def sample(
        self,
        image: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int16],
        to_source: npt.NDArray[np.float64],
        patch: npt.NDArray[np.float32],
        patch_labels: npt.NDArray[np.int16],
    ) -> None:
        """Fill a patch.

        Args:
            image: ``(C, H, W)``.
            labels: ``(H, W)``.
            to_source: Row and column of the image from row, column and 1 of the patch.
            patch: ``(C, h, w)``.
            patch_labels: ``(h, w)``.
        """
        from nnmedseg.training.augmentation import _sampling_kernels  # noqa: PLC0415 - slow

        planes = (image, labels, np.int16(self.padding_value_seg))
        _sampling_kernels.sample(planes, to_source, patch, patch_labels)
