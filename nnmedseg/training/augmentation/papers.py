"""What each paper's code does to a training image, in its order and with its probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform

from nnmedseg.training.augmentation.appearance import (
    AdditiveNoise,
    BlackSquares,
    BrightnessContrast,
    JPEGCompression,
    MedianBlur,
)
from nnmedseg.training.augmentation.choices import SomeOf
from nnmedseg.training.augmentation.filters import (
    SIZES,
    BoxBlur,
    GaussianBlur,
    MotionBlur,
    Sharpen,
)
from nnmedseg.training.augmentation.geometry import (
    Flip,
    PiecewiseAffine,
    RandomAffine,
    RandomResizedCrop,
)
from nnmedseg.training.augmentation.levels import Levels
from nnmedseg.training.augmentation.local_equalization import LocalEqualization

VERTICALLY, HORIZONTALLY = 0, 1
WHITE = 255
"""Of 8 bits, in which the papers give their noise."""


@dataclass(frozen=True)
class Images:
    """What an augmentation has to know of the images.

    Attributes:
        levels: Their black and white.
        scale: How many pixels of height and width one of the original image has become.
        released: Whether faults of the released code are wanted.
    """

    levels: Levels
    scale: tuple[float, float]
    released: bool = False


def rosper(images: Images) -> list[BasicTransform]:
    """RoSPER-Net and ASC-Seg, after normalisation; their code draws one angle for a whole run."""
    return [
        RandomTransform(RandomAffine(images.levels, rotation=(0, 360), sampling="nearest"), 0.5),
        RandomTransform(Flip(VERTICALLY), 0.5),
        RandomTransform(Flip(HORIZONTALLY), 0.5),
    ]


def heteromedseg_binary(images: Images) -> list[BasicTransform]:
    """HeteroMedSeg on ISIC 2018, CVC-ClinicDB and rectal cancer, after resizing."""
    moved = RandomAffine(images.levels, rotation=(-45, 45), scaling=(0.9, 1.1), mirrored=True)
    return [
        RandomTransform(Flip(HORIZONTALLY), 0.25),
        RandomTransform(Flip(VERTICALLY), 0.25),
        RandomTransform(moved, 0.25),
        RandomTransform(BlackSquares(images.levels, 8, (8, 8)), 0.5),
    ]


def heteromedseg_synapse(images: Images) -> list[BasicTransform]:
    """HeteroMedSeg on Synapse: up to 4 of 9, on slices of 512 x 512."""
    levels = images.levels
    # Meant for images of 0 to 255, theirs are of 0 to 1: when it is drawn, nothing else is seen.
    noise = 1.275 if images.released else 1.275 / WHITE
    sigma = sum(images.scale) / 2  # one pixel of the original
    return [
        SomeOf(
            [
                RandomTransform(Flip(VERTICALLY), 0.5),
                RandomTransform(Flip(HORIZONTALLY), 0.5),
                AdditiveNoise(levels, (noise**2, noise**2)),
                GaussianBlurTransform(sigma, synchronize_channels=True, synchronize_axes=True),
                RandomAffine(levels, scaling=(0.5, 2), each_axis=True),
                RandomAffine(levels, rotation=(-40, 40)),
                RandomAffine(levels, shear=(-16, 16)),
                PiecewiseAffine(levels, (0.008, 0.03)),
                RandomAffine(levels, shift=(-0.2, 0.2)),
            ],
            most=4,
        )
    ]


def condseg_stage1(images: Images) -> list[BasicTransform]:
    """ConDSeg's first stage, before resizing; its strong view belongs to its loss."""
    return _condseg(images, rotation=90, probability=0.5)


def condseg(images: Images) -> list[BasicTransform]:
    """ConDSeg's second stage, before resizing."""
    return _condseg(images, rotation=35, probability=0.3)


def _condseg(images: Images, *, rotation: float, probability: float) -> list[BasicTransform]:
    """Return a stage's transforms; the borders and squares are those of albumentations 1."""
    moved = RandomAffine(images.levels, rotation=(-rotation, rotation), mirrored=True)
    height, width = (max(1, round(32 * scale)) for scale in images.scale)
    return [
        RandomTransform(moved, probability),
        RandomTransform(Flip(HORIZONTALLY), probability),
        RandomTransform(Flip(VERTICALLY), probability),
        RandomTransform(BlackSquares(images.levels, 10, (height, width)), 0.3),
    ]


def promise(images: Images) -> list[BasicTransform]:
    """ProMISe's ``train2_color``, after resizing, with the defaults of albumentations 0.4.6."""
    levels = images.levels
    moved = RandomAffine(
        levels, rotation=(-45, 45), scaling=(0.95, 1.05), shift=(-0.0625, 0.0625), mirrored=True
    )
    blurs = [BoxBlur(), GaussianBlur(), MedianBlur(levels, SIZES), MotionBlur()]
    noises = [
        LocalEqualization(levels, clip_limit=2),
        Sharpen(levels, share=(0.2, 0.5), lightness=(0.5, 1.0)),
        JPEGCompression(levels, quality=(99, 100)),
        AdditiveNoise(levels, (10 / WHITE**2, 50 / WHITE**2)),
    ]
    return [
        RandomTransform(RandomResizedCrop(area=(0.95, 1.05), ratio=(0.95, 1.05)), 0.25),
        RandomTransform(Flip(HORIZONTALLY), 0.25),
        RandomTransform(Flip(VERTICALLY), 0.25),
        RandomTransform(moved, 0.25),
        RandomTransform(OneOfTransform(blurs), 0.25),
        RandomTransform(BrightnessContrast(levels, 0.1, 0.1), 0.25),
        RandomTransform(OneOfTransform(noises), 0.25),
        RandomTransform(BlackSquares(levels, 8, (8, 8)), 0.1),
    ]
