"""nnU-Net's transforms with the same draws and, but for rounding, the same results, but quicker."""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform, _build_kernel
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from torch.nn.functional import pad

from nnmedseg.training.augmentation.quick_spatial import HAVE_KERNELS

LEAST_RANGE = 1e-7
TRUNCATE = 6
"""Deviations that a blurring kernel spans; this and the above are nnU-Net's numbers."""


class QuickBlur(GaussianBlurTransform):
    """Blurs an image by adding shifted copies, rather than by trying out convolutions."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        if img.ndim != 3:
            return super()._apply_to_image(img, **params)
        channels = torch.nonzero(params["apply_to_channel"]).flatten().tolist()
        for number, channel in enumerate(channels):
            sigmas = params["sigmas"] if self.synchronize_channels else params["sigmas"][number]
            for axis, sigma in enumerate(sigmas):
                _blur(img[channel], sigma, axis)
        return img


def _blur(plane: torch.Tensor, sigma: float, axis: int) -> None:
    """Blur a plane along an axis in place; it goes on mirrored outside."""
    weights = _build_kernel(sigma, truncate=TRUNCATE).tolist()
    margin = len(weights) // 2
    margins = (margin, margin, 0, 0) if axis else (0, 0, margin, margin)
    padded = pad(plane[None, None], margins, "reflect")[0, 0]
    length = plane.shape[axis]
    torch.mul(padded.narrow(axis, 0, length), weights[0], out=plane)
    for start, weight in enumerate(weights[1:], 1):
        plane.add_(padded.narrow(axis, start, length), alpha=weight)


class QuickGamma(GammaTransform):
    """Changes contrast by a power with fewer passes over each channel."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        for number, channel in enumerate(params["apply_to_channel"].tolist()):
            sign = -1.0 if params["invert_image"][number] else 1.0
            _raise(
                img[channel],
                float(params["gamma"][number]),
                sign,
                retain=bool(params["retain_stats"][number]),
            )
        return img


def _raise(plane: torch.Tensor, gamma: float, sign: float, *, retain: bool) -> None:
    """Raise a plane to a power between its own darkest and brightest value, in place.

    Args:
        plane: ``(H, W)``.
        gamma: The power.
        sign: -1 to raise its negative.
        retain: Whether mean and deviation are to be as before.
    """
    low, high = (float(value) for value in torch.aminmax(plane))
    span = high - low
    mean, deviation = _mean_and_deviation(plane) if retain else (0.0, 0.0)
    start = low if sign > 0 else high
    plane.sub_(start).mul_(sign / max(span, LEAST_RANGE)).clamp_(min=0).pow_(gamma)
    if not retain:
        plane.mul_(sign * span).add_(start)
        return
    mean_here, deviation_here = _mean_and_deviation(plane)
    factor = sign * span * deviation / max(span * deviation_here, LEAST_RANGE)
    plane.mul_(factor).add_(mean - factor * mean_here)


def _mean_and_deviation(plane: torch.Tensor) -> tuple[float, float]:
    mean = plane.mean()
    values = (plane - mean).flatten()
    return float(mean), float((values.dot(values) / max(len(values) - 1, 1)).sqrt())


class QuickMirror(MirrorTransform):
    """Mirrors image and labels in place."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return self._mirrored(img, params["axes"])

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        return self._mirrored(segmentation, params["axes"])

    @staticmethod
    def _mirrored(planes: torch.Tensor, axes: list[int]) -> torch.Tensor:
        from nnmedseg.training.augmentation._sampling_kernels import mirror  # noqa: PLC0415 - slow

        if planes.ndim != 3:
            return planes.flip([axis + 1 for axis in axes])
        if axes:
            mirror(planes.numpy(), 0 in axes, 1 in axes)
        return planes


class QuickRemoveLabel(RemoveLabelTransform):
    """Replaces a label without a list of its pixels."""

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        if self.segmentation_channels is not None:
            return super()._apply_to_segmentation(segmentation, **params)
        return segmentation.masked_fill_(segmentation == self.label_value, self.set_to)


_QUICK: dict[type[BasicTransform], type[BasicTransform]] = {
    GaussianBlurTransform: QuickBlur,
    GammaTransform: QuickGamma,
    RemoveLabelTransform: QuickRemoveLabel,
}
if HAVE_KERNELS:
    _QUICK[MirrorTransform] = QuickMirror


def quickened(transform: BasicTransform) -> BasicTransform:
    """Return a quick transform with the settings of another, or that itself if there is none."""
    if type(transform) is RandomTransform:
        return RandomTransform(quickened(transform.transform), transform.apply_probability)
    kind = _QUICK.get(type(transform))
    if kind is None:
        return transform
    quick: BasicTransform = object.__new__(kind)
    quick.__dict__.update(transform.__dict__)
    return quick
