"""What an image looks like at low resolution: as a hash of 256 bits, and as a small picture.

Both come from the lowest coefficients of the image's discrete cosine transform, which do not depend
on its size: copies at any resolution and aspect ratio have the same ones but for rounding. A mirror
turns the sign of every other coefficient and a transposition swaps them, so that the hashes of all
eight orientations follow from one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

HASH_SIDE = 16
"""A hash has the signs of 16 x 16 coefficients.

Of 157 images of twelve public data sets, each in 12 altered copies (JPEG at quality 50, half size,
512 x 512, brighter, ...), the hash of no copy differs by more than 25 bits from the original's. Any
two different pictures differ by at least 54 in every orientation, two consecutive frames of a
colonoscopy excepted. With the usual 8 x 8 coefficients copies differ by up to 7 bits and different
pictures, two retinas, by a single one.
"""
SAMPLES_A_SIDE = 256
"""Pixels a side that a hash is made from, at least; of larger images it takes every n-th."""

IMAGE_SIDE = 64
VOLUME_DEPTH, VOLUME_SIDE = 16, 32
LEAST_CONTRAST = 0.005
"""Standard deviation of the low frequencies, as a part of the range of values, below which there is
no structure to compare: an empty image with a few stray pixels."""

BLOCK_SIDE, BLOCK_DEPTH = 8, 4
# Thresholds of "the same structure". Measured as for HASH_SIDE, on standardised pictures: the
# correlation of copies is at least 0.983 (contrast raised until highlights are cut off), that of
# the worst block at least 0.907. The most similar different pictures, two consecutive frames of a
# colonoscopy, have 0.995 as a whole and 0.41 in the block where something moved. An image shifted
# by half a per cent of its width is still a copy, by one per cent it is mostly not.
LEAST_CORRELATION = 0.97
LEAST_BLOCK_CORRELATION = 0.8
NOISE_VARIANCE = 0.02
"""Added to the covariance and variances of a block (of a picture with variance 1), so that blocks
without content, where copies differ by noise only, count as equal."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SYMMETRIES = 8


def is_volume(image: np.ndarray) -> bool:
    """Return whether an image is (Z, Y, X), and not (H, W) or colours (H, W, 3)."""
    return image.ndim == 3 and not _is_colour(image)


def perceptual_hash(image: np.ndarray) -> str:
    """Return the hash as hexadecimal digits, or "" for an image without structure.

    Args:
        image: (H, W), (H, W, 3) or a volume (Z, Y, X), whose mean over Z is hashed.
    """
    if is_volume(image):
        image = _mean_plane(image)
    height, width = image.shape[:2]
    rows, columns = (max(1, side // SAMPLES_A_SIDE) for side in (height, width))
    grey = _grey(image[rows // 2 :: rows, columns // 2 :: columns])
    coefficients = _cosines(height, HASH_SIDE, rows) @ grey @ _cosines(width, HASH_SIDE, columns).T
    coefficients[0, 0] = 0  # the mean brightness says nothing
    if np.linalg.norm(coefficients) <= LEAST_CONTRAST * np.ptp(grey):
        return ""
    return np.packbits(coefficients >= 0).tobytes().hex()


def hash_signs(hashes: list[str]) -> np.ndarray:
    """Return the bits of hashes as 1 and -1, float32, (N, 16, 16)."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8)
    bits = np.unpackbits(packed).reshape(-1, HASH_SIDE, HASH_SIDE)
    return bits.astype(np.float32) * 2 - 1


def orient_signs(signs: np.ndarray, symmetry: int) -> np.ndarray:
    """Return what ``hash_signs`` would give for the images in another orientation.

    Args:
        signs: (N, 16, 16).
        symmetry: 0 to 7, as for ``orient``.
    """
    transposed, upside_down, mirrored = _parts_of(symmetry)
    alternating = (-1.0) ** np.arange(HASH_SIDE, dtype=np.float32)
    if transposed:
        signs = signs.swapaxes(-1, -2)
    if upside_down:
        signs = signs * alternating[:, None]
    return signs * alternating if mirrored else signs


def orient(picture: np.ndarray, symmetry: int) -> np.ndarray:
    """Return (..., Y, X) in one of the eight orientations: transposed, then mirrored, or not."""
    transposed, upside_down, mirrored = _parts_of(symmetry)
    if transposed:
        picture = picture.swapaxes(-1, -2)
    if upside_down:
        picture = picture[..., ::-1, :]
    return picture[..., ::-1] if mirrored else picture


@dataclass(frozen=True, eq=False)
class Appearance:
    """A small grey picture of an image or volume.

    Attributes:
        picture: Mean 0 and variance 1, float16 (some are kept at once), (1, 64, 64) of images and
            (16, 32, 32) of volumes.
        is_fine: Whether the image has two pixels or more for each of the picture's, as volumes are
            taken to have. If not, those who made it from a larger one have decided how the
            picture's finest details look.
    """

    picture: np.ndarray
    is_fine: bool

    @classmethod
    def of(cls, image: np.ndarray) -> Appearance:
        """Shrink an image (H, W) or (H, W, 3) or a volume (Z, Y, X)."""
        if is_volume(image):
            small = _shrink(map(_finite, image), (VOLUME_DEPTH, VOLUME_SIDE, VOLUME_SIDE))
            is_fine = True
        else:
            small = _shrink([_grey(image)], (1, IMAGE_SIDE, IMAGE_SIDE))
            is_fine = min(image.shape[:2]) >= 2 * IMAGE_SIDE
        small -= small.mean()
        return cls((small / max(float(small.std()), 1e-20)).astype(np.float16), is_fine)

    def shows_same(self, other: Appearance, symmetry: int) -> bool:
        """Return whether ``other``, brought to an orientation, has the structure of this one.

        The correlation must be high in the whole picture and in each of its blocks, which does
        not depend on brightness and contrast, not even where they change across the picture.
        """
        if self.picture.shape != other.picture.shape:
            return False
        mine = self.picture.astype(np.float32)
        others = orient(other.picture.astype(np.float32), symmetry)
        if not (self.is_fine and other.is_fine):
            half = (1, IMAGE_SIDE // 2, IMAGE_SIDE // 2)
            mine, others = _shrink(mine, half), _shrink(others, half)
        # Volumes may also be stored from the other end.
        return _correlates(mine, others) or (len(mine) > 1 and _correlates(mine, others[::-1]))


def _correlates(first: np.ndarray, second: np.ndarray) -> bool:
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    if float(np.vdot(first, second)) < LEAST_CORRELATION * norms:
        return False
    blocks, others = _centred_blocks(first), _centred_blocks(second)
    covariance = (blocks * others).mean(axis=1) + NOISE_VARIANCE
    variances = (blocks**2).mean(axis=1) * (others**2).mean(axis=1)
    correlation = covariance / (np.sqrt(variances) + NOISE_VARIANCE)
    return float(correlation.min()) >= LEAST_BLOCK_CORRELATION


def _centred_blocks(picture: np.ndarray) -> np.ndarray:
    """Return the blocks of a picture (Z, Y, X) without their means, (blocks, pixels)."""
    depth, height, width = picture.shape
    block_depth = min(BLOCK_DEPTH, depth)
    split = picture.reshape(
        depth // block_depth, block_depth,
        height // BLOCK_SIDE, BLOCK_SIDE,
        width // BLOCK_SIDE, BLOCK_SIDE,
    )  # fmt: skip
    blocks = split.transpose(0, 2, 4, 1, 3, 5).reshape(-1, block_depth * BLOCK_SIDE**2)
    return blocks - blocks.mean(axis=1, keepdims=True)


def _parts_of(symmetry: int) -> tuple[bool, bool, bool]:
    return bool(symmetry & 4), bool(symmetry & 2), bool(symmetry & 1)


def _is_colour(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[-1] == 3 and image.dtype in (np.uint8, np.uint16)


def _grey(image: np.ndarray) -> np.ndarray:
    values = _finite(image)
    return values @ LUMA if _is_colour(image) else values


def _mean_plane(volume: np.ndarray) -> np.ndarray:
    """Return the mean over Z, (Y, X), without a copy of the volume."""
    total = np.zeros(volume.shape[1:], np.float32)
    for plane in volume:
        total += _finite(plane)
    return total / len(volume)


def _finite(values: np.ndarray) -> np.ndarray:
    """Return float32 without NaN and infinities, which are 0."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and so 0
        single = values.astype(np.float32)
    if values.dtype.kind == "f":
        np.nan_to_num(single, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return single


@lru_cache(maxsize=64)
def _cosines(length: int, count: int, step: int = 1) -> np.ndarray:
    """Return the ``count`` slowest cosines at every ``step``-th of ``length`` pixels.

    They are scaled so that the coefficients' squares add up to the mean square of the pixels.
    Those that are too fast for the number of pixels are zero.
    """
    positions = (np.arange(step // 2, length, step) + 0.5) / length
    cosines = np.cos(np.pi * np.arange(count)[:, None] * positions) / len(positions)
    cosines[1:] *= np.sqrt(2)
    cosines[len(positions) :] = 0
    return cosines.astype(np.float32)


def _shrink(planes: Iterable[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """Bring the planes (Y, X) of a picture to another shape (Z, Y, X) without aliasing."""
    depth, height, width = shape
    small = np.stack([
        _low_pass(plane.shape[0], height) @ plane @ _low_pass(plane.shape[1], width).T
        for plane in planes
    ])  # fmt: skip
    return np.tensordot(_low_pass(len(small), depth), small, 1)


@lru_cache(maxsize=64)
def _low_pass(length: int, size: int) -> np.ndarray:
    """Return the matrix (size, length) that shrinks (or enlarges) an axis without aliasing."""
    return size * _cosines(size, size).T @ _cosines(length, size)
