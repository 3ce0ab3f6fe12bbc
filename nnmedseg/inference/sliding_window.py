"""nnU-Net's sliding window, which hands over the rows of an image as soon as they are complete.

Tiles, their weights and the order of additions are nnU-Net's, in its float16, so that a network
gives the logits that it gives there. But only the rows that tiles still come to are kept, which for
a volume of many classes is a part of the memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from torch import Tensor, nn

from nnmedseg.inference.tile_batches import TileBatches

WEIGHT_AT_THE_CENTRE = 10
"""nnU-Net's, which keeps small weights in the range of float16."""

_Place = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Slab:
    """The next rows of an image, averaged over folds and mirrored copies.

    Attributes:
        logits: ``(K, n, H, W)``, or ``(K, 1, n, W)`` of an image with a single slice; float16, on
            the CPU.
        probabilities: Likewise, the mean of what each fold says of each mirrored copy; float32.
    """

    logits: Tensor
    probabilities: Tensor | None = None


@dataclass(frozen=True)
class _Group:
    """Tiles that begin in the same row."""

    start: int
    places: tuple[_Place, ...]


class SlidingWindow:
    """Runs networks over an image that may be larger than what they take.

    Args:
        networks: One a fold, in evaluation mode.
        patch_size: Height and width of a tile, or its depth, height and width.
        heads: Channels of the logits.
        batches: Gives tiles to the networks, and knows where these run.
        step: Distance of two tiles in shares of a tile.
        mirror_axes: Axes of a tile along which mirrored copies are averaged.
        activation: What makes probabilities of logits ``(K, ...)``; they are averaged too if given.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        patch_size: Sequence[int],
        *,
        heads: int,
        batches: TileBatches,
        step: float = 0.5,
        mirror_axes: Sequence[int] | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        self._networks = networks
        self._patch_size = tuple(int(side) for side in patch_size)
        self._heads = heads
        self._step = step
        self._activation = activation
        self._flips = mirrored_axes(mirror_axes)
        self._batches = batches

    @torch.inference_mode()
    def slabs(self, image: Tensor) -> Iterator[Slab]:
        """Yield the logits of an image ``(C, Z, H, W)``, from its first row to its last.

        Rows are those of the first axis, of an image with a single slice those of the second.

        Raises:
            RuntimeError: The network gives infinite logits.
        """
        padded, inside = pad_nd_image(
            image, self._patch_size, "constant", {"value": 0}, return_slicer=True
        )
        axis = 1 if image.shape[1] == 1 else 0
        shape = padded.shape[1:]
        groups = self._groups(shape, axis)
        window = _Window(self, shape, axis, self._place_shape)
        for number, group in enumerate(groups):
            for fold, network in enumerate(self._networks):
                tiles = [self._tile(padded, place) for place in group.places]
                found = self._batches.predict(network, tiles, self._flips, self._activation)
                for place, (logits, probabilities) in zip(group.places, found, strict=True):
                    window.add(fold, place, logits, probabilities)
            end = groups[number + 1].start if number + 1 < len(groups) else shape[axis]
            slab = window.take(end, inside[1:])
            if slab is not None:
                yield slab

    @property
    def _place_shape(self) -> tuple[int, int, int]:
        depth = self._patch_size[0] if len(self._patch_size) == 3 else 1
        height, width = self._patch_size[-2:]
        return depth, height, width

    def _groups(self, shape: Sequence[int], axis: int) -> list[_Group]:
        steps = compute_steps_for_sliding_window(
            tuple(shape[-len(self._patch_size) :]), self._patch_size, self._step
        )
        starts = steps if len(steps) == 3 else [list(range(shape[0])), *steps]
        depth, height, width = self._place_shape
        places = [
            (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
            for z, y, x in itertools.product(*starts)
        ]
        grouped = itertools.groupby(places, lambda place: int(place[axis].start))
        return [_Group(start, tuple(members)) for start, members in grouped]

    def _tile(self, padded: Tensor, place: _Place) -> Tensor:
        z, y, x = place
        tile = padded[:, z, y, x]
        return tile[None, :, 0] if len(self._patch_size) == 2 else tile[None]


class _Window:
    """The rows that are being added up: ``(K, Z, H, W)`` cut to the length of a tile."""

    def __init__(
        self, of: SlidingWindow, shape: Sequence[int], axis: int, tile: tuple[int, int, int]
    ):
        self._axis = axis
        self._start = 0
        kept = list(shape)
        kept[axis] = tile[axis]
        self._folds = len(of._networks)
        windows = windows_of(self._folds, of._patch_size)
        self._logits = torch.zeros((windows, of._heads, *kept), dtype=torch.half)
        self._weights = torch.zeros(kept, dtype=torch.half)
        self._probabilities = (
            None if of._activation is None else torch.zeros((of._heads, *kept), dtype=torch.float32)
        )
        gaussian = compute_gaussian(
            of._patch_size,
            sigma_scale=1.0 / 8,
            value_scaling_factor=WEIGHT_AT_THE_CENTRE,
            device=torch.device("cpu"),
        )
        self._gaussian = gaussian.reshape(tile)

    def add(self, fold: int, place: _Place, logits: Tensor, probabilities: Tensor | None) -> None:
        """Add what the network of a fold says of a tile."""
        rows = place[self._axis]
        here = list(place)
        here[self._axis] = slice(rows.start - self._start, rows.stop - self._start)
        z, y, x = here
        shape = (-1, *self._gaussian.shape)
        window = self._logits[fold % len(self._logits)]
        window[:, z, y, x] += logits.reshape(shape).mul_(self._gaussian)
        if self._probabilities is not None and probabilities is not None:
            self._probabilities[:, z, y, x] += probabilities.reshape(shape) * self._gaussian
        if fold == 0:
            self._weights[z, y, x] += self._gaussian

    def take(self, end: int, inside: Sequence[slice]) -> Slab | None:
        """Return the rows before ``end`` without what is padding, and go on there."""
        count = end - self._start
        first = max(inside[self._axis].start - self._start, 0)
        last = min(inside[self._axis].stop - self._start, count)
        slab = None
        if first < last:
            here = list(inside)
            here[self._axis] = slice(first, last)
            slab = self._average(*here)
        for values in (self._logits, self._weights, self._probabilities):
            if values is not None:
                _advance(values, values.ndim - 3 + self._axis, count)
        self._start = end
        return slab

    def _average(self, z: slice, y: slice, x: slice) -> Slab:
        weights = self._weights[z, y, x]
        logits = self._logits[0, :, z, y, x] / weights
        for window in self._logits[1:]:
            logits += window[:, z, y, x] / weights
        if self._folds > 1:
            logits /= self._folds
        if not torch.isfinite(logits).all():
            raise RuntimeError("the network gives logits that are infinite or not a number")
        if self._probabilities is None:
            return Slab(logits)
        probabilities = self._probabilities[:, z, y, x]
        return Slab(logits, probabilities / (weights.float() * self._folds))


def _advance(values: Tensor, axis: int, count: int) -> None:
    """Move the rows from ``count`` on to the front, and clear those behind them."""
    kept = values.shape[axis] - count
    if kept > 0:
        values.narrow(axis, 0, kept).copy_(values.narrow(axis, count, kept).clone())
    values.narrow(axis, max(kept, 0), values.shape[axis] - max(kept, 0)).zero_()


def mirrored_axes(axes: Sequence[int] | None) -> list[tuple[int, ...]]:
    """Return which axes of a batch each copy is mirrored along, in nnU-Net's order.

    Args:
        axes: Axes of a tile, from 0.
    """
    shifted = [axis + 2 for axis in axes or ()]
    lengths = range(len(shifted) + 1)
    return [chosen for n in lengths for chosen in itertools.combinations(shifted, n)]


def windows_of(folds: int, patch_size: Sequence[int]) -> int:
    """Return in how many windows tiles are added up.

    One a fold, as nnU-Net has it, so that rounding is the same. Those of volumes would not fit into
    memory: all folds share one.
    """
    return folds if len(patch_size) == 2 else 1


def window_bytes(
    shape: Sequence[int], patch_size: Sequence[int], *, heads: int, folds: int, uncertainty: bool
) -> int:
    """Return how much memory is taken by what is added up for an image.

    Args:
        shape: Slices, height and width of the preprocessed image.
        patch_size: See `SlidingWindow`.
        heads: Likewise.
        folds: Number of networks.
        uncertainty: Whether probabilities are averaged too.
    """
    depth = patch_size[0] if len(patch_size) == 3 else 1
    tile = (depth, *patch_size[-2:])
    padded = [max(side, least) for side, least in zip(shape, tile, strict=True)]
    axis = 1 if shape[0] == 1 else 0
    padded[axis] = tile[axis]
    of_each = heads * (2 * windows_of(folds, patch_size) + 4 * uncertainty) + 2
    return math.prod(padded) * of_each
