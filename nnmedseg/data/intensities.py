"""Intensities as networks are fed them: nnU-Net's normalisations and the papers' own.

Where an image holds whole numbers of 8 bits, most of them are a factor and a summand for each
channel. Those follow from a few statistics of the image, so that the image can be kept as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Pixels = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
SYNAPSE_WINDOW = (-125.0, 275.0)  # HU
ROWS_AT_ONCE = 32
LEAST_DEVIATION = 1e-8  # by which nnU-Net divides at least


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


INTENSITIES: Mapping[str, Callable[[_Pixels], _Pixels]] = {
    "min_max_255": _minimum_to_0_maximum_to_255,
    "divided_by_255": _divided_by_255,
    "imagenet": _imagenet,
    "synapse": _synapse,
}
"""What the papers' released code does to an image ``(C, Z, H, W)``, of which each of the Z slices
is an image of its own."""


@dataclass(frozen=True)
class Affine:
    """Normalised intensities as ``scale * value + offset``, float64 ``(C,)`` each."""

    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of the intensities of each channel, float64 ``(C,)`` each."""

    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

    def of_channel(self, channel: int) -> Statistics:
        """Return those of one channel, ``(1,)`` each."""
        one = slice(channel, channel + 1)
        return Statistics(self.lowest[one], self.highest[one], self.mean[one], self.deviation[one])


def measure(image: npt.NDArray[np.uint8]) -> Statistics:
    """Return the exact statistics of an image ``(C, H, W)`` without a copy of it in floats."""
    sums = np.zeros((2, len(image)))
    for channel, plane in enumerate(image):
        for top in range(0, len(plane), ROWS_AT_ONCE):
            values = plane[top : top + ROWS_AT_ONCE].ravel().astype(np.float64)
            sums[:, channel] += values.sum(), values.dot(values)
    mean, square = sums / image[0].size
    return Statistics(
        lowest=image.min(axis=(1, 2)).astype(np.float64),
        highest=image.max(axis=(1, 2)).astype(np.float64),
        mean=mean,
        deviation=np.sqrt(np.maximum(square - mean**2, 0)),
    )


def _as_they_are(image: Statistics) -> Affine:
    return Affine(np.ones_like(image.mean), np.zeros_like(image.mean))


def _by_255(image: Statistics) -> Affine:
    return Affine(np.full_like(image.mean, 1 / 255), np.zeros_like(image.mean))


def _z_score(image: Statistics) -> Affine:
    scale = 1 / np.maximum(image.deviation, LEAST_DEVIATION)
    return Affine(scale, -image.mean * scale)


def _to_unit_range(image: Statistics) -> Affine:
    scale = 1 / np.maximum(image.highest - image.lowest, LEAST_DEVIATION)
    return Affine(scale, -image.lowest * scale)


def _to_range_of_bytes(image: Statistics) -> Affine:
    low, high = image.lowest.min(), image.highest.max()
    scale = np.full_like(image.mean, 255 / (high - low if high > low else 1))
    return Affine(scale, -low * scale)


def _like_imagenet(image: Statistics) -> Affine:
    deviation = np.array(IMAGENET_DEVIATION)
    return Affine(1 / (255 * deviation), -np.array(IMAGENET_MEAN) / deviation)


_AFFINE: Mapping[str, Callable[[Statistics], Affine]] = {
    "ZScoreNormalization": _z_score,
    "NoNormalization": _as_they_are,
    "RescaleTo01Normalization": _to_unit_range,
    "RGBTo01Normalization": _by_255,
    "min_max_255": _to_range_of_bytes,
    "divided_by_255": _by_255,
    "imagenet": _like_imagenet,
}


def is_affine(names: Sequence[str]) -> bool:
    """Whether normalisations need no more than a factor and a summand for each channel."""
    return all(name in _AFFINE for name in names)


def affine_of_channels(schemes: Sequence[str], image: Statistics) -> Affine:
    """Return what nnU-Net's normalisation classes do, of which each channel has its own."""
    channels = [_AFFINE[name](image.of_channel(n)) for n, name in enumerate(schemes)]
    return Affine(
        np.concatenate([one.scale for one in channels]),
        np.concatenate([one.offset for one in channels]),
    )


def affine_of_image(intensity: str, image: Statistics) -> Affine:
    """Return what one of `INTENSITIES` does to an image."""
    return _AFFINE[intensity](image)
