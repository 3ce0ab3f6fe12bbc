"""Bringing images and masks to the size at which a network sees them.

Pixels are averaged along the rows and then along the columns. The weights of one direction are a
sparse matrix with a few entries for each new pixel. Against Pillow this takes any type and number
of channels, and does not round between the two directions, at half of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

ROWS_AT_ONCE = 32
"""New rows that are worked on together: only as many old rows as they need are copied."""

ROUNDING = np.float32(1e-5)
"""By which shares differ that are equal."""

CLEAR_SHARE = 1 / 4
"""Of a pixel, that a thin part of a label has to have in order to be kept beside a thick one."""

LEAST_SHARE = 1 / 32
"""Of a pixel, that a thin part of a label has to have in order to be kept: what a line one pixel
wide has at a sixteenth of the size."""


def working_shape(shape: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Return the height and width at which the shorter side is as long as wanted, aspect kept.

    Args:
        shape: Height and width of the image in pixels.
        shorter_side: Length of the shorter side afterwards, in pixels.
    """
    height, width = shape
    factor = shorter_side / min(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize(
    image: npt.NDArray[np.generic],
    size: tuple[int, int],
    method: str = "antialiased",
    *,
    tables: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Resize the planes of an image.

    Args:
        image: ``(..., H, W)``, numbers of any type.
        size: New height and width in pixels.
        method: One of `METHODS`. ``"antialiased"`` is bilinear interpolation whose triangle is
            widened where an image shrinks, as Pillow and torchvision have it; ``"bilinear"`` looks
            at the four nearest pixels whatever the factor and ``"area"`` averages whole pixels, as
            PyTorch does under these names.
        tables: Of an image of 8 bits the numbers to take in place of its values, ``(planes, 256)``.

    Returns:
        ``(..., *size)``; no value lies outside the range of the image.
    """
    planes = image.reshape(-1, *image.shape[-2:])
    resized = np.empty((len(planes), *size), np.float32)
    if planes.shape[1:] == tuple(size):
        for top in range(0, size[0], ROWS_AT_ONCE):
            rows = slice(top, top + ROWS_AT_ONCE)
            for number, plane in enumerate(planes):
                resized[number, rows] = _floats(plane[rows], tables, number)
    else:
        down, across = (
            METHODS[method](old, new) for old, new in zip(planes.shape[1:], size, strict=True)
        )
        for top in range(0, size[0], ROWS_AT_ONCE):
            weights = down[top : top + ROWS_AT_ONCE]
            first, last = int(weights.indices.min()), int(weights.indices.max())
            weights = weights[:, first : last + 1]
            for number, plane in enumerate(planes):
                strip = weights @ _floats(plane[first : last + 1], tables, number)
                resized[number, top : top + ROWS_AT_ONCE] = (across @ strip.T).T
    return resized.reshape(*image.shape[:-2], *size)


def _floats(
    rows: npt.NDArray[Any], tables: npt.NDArray[np.float32] | None, plane: int
) -> npt.NDArray[np.float32]:
    return rows.astype(np.float32) if tables is None else tables[plane][rows]


def resize_to_8_bits(
    image: npt.NDArray[np.uint8], size: tuple[int, int], method: str = "antialiased"
) -> npt.NDArray[np.uint8]:
    """Resize an image of 8 bits ``(C, H, W)`` and round to the nearest grey level."""
    if image.shape[1:] == tuple(size):
        return image
    resized = np.empty((len(image), *size), np.uint8)
    for plane, target in zip(image, resized, strict=True):
        exact = resize(plane, size, method)
        np.add(exact, np.float32(0.5), out=exact)
        target[:] = exact  # towards zero, which is to the nearest now
    return resized


def resize_labels(
    labels: npt.NDArray[np.integer], size: tuple[int, int]
) -> npt.NDArray[np.integer]:
    """Resize a label map so that thin structures survive.

    Each label gets the share of every new pixel that it covers, with the weights that images are
    resized with, and the largest share wins; of equal ones the larger label. A line thinner than a
    new pixel wins few or none. Where an image shrinks, a positive label therefore also gets the
    pixels in which its share is largest across a line: those with a share of at least a quarter,
    and of at least `LEAST_SHARE` where the label has no pixel around.

    Args:
        labels: ``(H, W)``; 0 is background and negative numbers are outside of the image.
        size: New height and width in pixels.

    Returns:
        ``size``, of the type of ``labels``, with no label that was not there.
    """
    if labels.shape == tuple(size):
        return labels
    present = np.unique(labels)
    resized = np.full(size, present[0], labels.dtype)
    if len(present) == 1:
        return resized
    shrinks = size[0] < labels.shape[0] and size[1] < labels.shape[1]
    largest = resize(labels == present[0], size)
    thin = []
    for label in present[1:]:
        share = resize(labels == label, size)
        resized[share >= largest] = label
        np.maximum(largest, share, out=largest)
        if label > 0 and shrinks:
            ridges = _ridges(share)
            thin.append((label, ridges & (share >= CLEAR_SHARE), ridges))
    for label, clear, ridges in thin:
        resized[clear | (ridges & ~_near(resized == label))] = label
    return resized


def _ridges(share: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where a share is larger than in the left and right, or the upper and lower, neighbours."""
    return (_peaks(share) | _peaks(share.T).T) & (share >= LEAST_SHARE)


def _peaks(share: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where a share is larger than in the rows above and below; of two equal rows the second."""
    second, first, here, below = (
        np.pad(share, ((2, 1), (0, 0)), "reflect")[start : start + len(share)] for start in range(4)
    )
    least = here - ROUNDING
    rises = (least > first) | ((here >= first) & (least > second))
    return rises & (least > below)


def _near(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where a mask or one of its eight neighbours is set."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _antialiased(old: int, new: int) -> sparse.csr_array:
    factor = old / new
    reach = max(factor, 1.0)
    centres = (np.arange(new)[:, None] + 0.5) * factor
    first = np.floor(centres - reach).astype(np.int64)
    pixels = first + np.arange(2 * int(np.ceil(reach)) + 2)
    weights = np.clip(1 - np.abs(pixels + 0.5 - centres) / reach, 0, None)
    return _matrix(pixels, weights, old)


def _bilinear(old: int, new: int) -> sparse.csr_array:
    position = np.clip((np.arange(new)[:, None] + 0.5) * old / new - 0.5, 0, old - 1)
    first = np.floor(position).astype(np.int64)
    pixels = first + np.arange(2)
    return _matrix(pixels, 1 - np.abs(pixels - position), old)


def _area(old: int, new: int) -> sparse.csr_array:
    starts = np.arange(new)[:, None] * old // new
    ends = -(-(np.arange(new)[:, None] + 1) * old // new)
    pixels = starts + np.arange(int((ends - starts).max()))
    return _matrix(pixels, (pixels < ends).astype(np.float64), old)


def _matrix(
    pixels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], old: int
) -> sparse.csr_array:
    """Return ``(new, old)``, rows adding up to one, from the pixels and weights of each row."""
    used = (weights > 0) & (pixels >= 0) & (pixels < old)
    weights = np.where(used, weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return sparse.csr_array(
        (weights[used].astype(np.float32), pixels[used], ends), shape=(len(pixels), old)
    )


METHODS: Mapping[str, Callable[[int, int], sparse.csr_array]] = {
    "antialiased": _antialiased,
    "bilinear": _bilinear,
    "area": _area,
}
