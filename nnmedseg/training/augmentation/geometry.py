"""Transforms that move image and labels together.

All take one sample: ``image`` ``(C, H, W)`` and ``segmentation`` ``(1, H, W)``, whose labels are
looked up at the nearest pixel. What comes from outside of the image is background.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch.nn.functional import affine_grid, grid_sample, interpolate

from nnmedseg.training.augmentation import draws
from nnmedseg.training.augmentation.draws import Range
from nnmedseg.training.augmentation.levels import Levels


class Flip(BasicTransform):
    """Mirror a sample.

    Args:
        axis: 0 turns it upside down, 1 swaps left and right.
    """

    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return img.flip(self.axis + 1)

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        return segmentation.flip(self.axis + 1)


class _Warp(BasicTransform):
    """Looks each pixel up elsewhere in the image.

    A subclass returns ``grid`` ``(1, H, W, 2)`` from ``get_parameters``: x and y, -1 and 1 being
    the centres of the outermost pixels.
    """

    def __init__(self, levels: Levels, *, sampling: str, mirrored: bool):
        super().__init__()
        self.levels = levels
        self.sampling = sampling
        self.padding = "reflection" if mirrored else "zeros"

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        black, _ = self.levels.of(img)
        return self._look_up(img - black, self.sampling, params["grid"]).add_(black)

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        found = self._look_up(segmentation.float(), "nearest", params["grid"])
        return found.to(segmentation.dtype)

    def _look_up(self, planes: torch.Tensor, mode: str, grid: torch.Tensor) -> torch.Tensor:
        return grid_sample(planes[None], grid, mode, self.padding, align_corners=True)[0]


class RandomAffine(_Warp):
    """Scale, shear, rotate and shift around the centre, in this order.

    Args:
        levels: Of the images.
        rotation: Degrees.
        scaling: Factors of size.
        each_axis: Whether height and width have factors of their own.
        shear: Degrees by which columns lean.
        shift: Shares of height and width.
        sampling: ``"bilinear"`` or ``"nearest"``, of the image.
        mirrored: Whether the image goes on mirrored outside, rather than in black.
    """

    def __init__(
        self,
        levels: Levels,
        *,
        rotation: Range = (0, 0),
        scaling: Range = (1, 1),
        each_axis: bool = False,
        shear: Range = (0, 0),
        shift: Range = (0, 0),
        sampling: str = "bilinear",
        mirrored: bool = False,
    ):
        super().__init__(levels, sampling=sampling, mirrored=mirrored)
        self.rotation = rotation
        self.scaling = scaling
        self.each_axis = each_axis
        self.shear = shear
        self.shift = shift

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw a transform."""
        height, width = data_dict["image"].shape[1:]
        angle = math.radians(draws.uniform(self.rotation))
        scale_x = draws.uniform(self.scaling)
        scale_y = draws.uniform(self.scaling) if self.each_axis else scale_x
        lean = math.tan(math.radians(draws.uniform(self.shear)))
        shift = np.array([draws.uniform(self.shift) * side for side in (width, height)])
        rotation = np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        moved = rotation @ np.array([[1, lean], [0, 1]]) @ np.diag([scale_x, scale_y])
        # Each pixel of the result asks where it comes from: the other way round.
        back = np.linalg.inv(moved)
        half = np.array([max(width - 1, 1), max(height - 1, 1)]) / 2
        theta = np.column_stack([back * half / half[:, None], -back @ shift / half])
        shape = [1, 1, height, width]
        grid = affine_grid(torch.from_numpy(theta).float()[None], shape, align_corners=True)
        return {"grid": grid}


class PiecewiseAffine(_Warp):
    """Move the crossings of a 4 x 4 grid; the triangles between them follow.

    Args:
        levels: Of the images.
        deviation: Of the crossings, as a share of height and width; one is drawn for a sample.
    """

    CROSSINGS = 4

    def __init__(self, levels: Levels, deviation: Range):
        super().__init__(levels, sampling="bilinear", mirrored=False)
        self.deviation = deviation

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw where the crossings go."""
        from scipy.interpolate import LinearNDInterpolator  # noqa: PLC0415 - for one paper only

        shape = data_dict["image"].shape[1:]
        line = np.linspace(-1, 1, self.CROSSINGS)
        crossings = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
        # The whole image is from -1 to 1, so that a share of it is twice as much.
        noise = 2 * draws.normal(draws.uniform(self.deviation), crossings.shape)
        triangles = LinearNDInterpolator(crossings, np.clip(crossings + noise, -1, 1))
        y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
        return {"grid": torch.from_numpy(triangles(x, y)).float()[None]}


class RandomResizedCrop(BasicTransform):
    """Cut a part out and enlarge it to the size of the whole.

    Args:
        area: Of the part, as a share of the image; those over 1 mostly do not fit.
        ratio: Width by height.
    """

    ATTEMPTS = 10
    """After which the whole image is taken."""

    def __init__(self, area: Range, ratio: Range):
        super().__init__()
        self.area = area
        self.ratio = ratio

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw the part."""
        shape = data_dict["image"].shape[1:]
        for _ in range(self.ATTEMPTS):
            pixels = math.prod(shape) * draws.uniform(self.area)
            ratio = math.exp(draws.uniform((math.log(self.ratio[0]), math.log(self.ratio[1]))))
            sides = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
            if all(0 < side <= whole for side, whole in zip(sides, shape, strict=True)):
                starts = [
                    draws.index(whole - side + 1) for side, whole in zip(sides, shape, strict=True)
                ]
                return {
                    "part": tuple(
                        slice(start, start + side)
                        for start, side in zip(starts, sides, strict=True)
                    )
                }
        return {"part": (slice(None), slice(None))}

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        rows, columns = params["part"]
        part = img[None, :, rows, columns]
        return interpolate(part, img.shape[1:], mode="bilinear", align_corners=False)[0]

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        rows, columns = params["part"]
        part = segmentation[None, :, rows, columns].float()
        found = interpolate(part, segmentation.shape[1:], mode="nearest-exact")[0]
        return found.to(segmentation.dtype)
