"""nnU-Net's sliding window, which hands over the rows of an image as soon as they are complete.

Tiles, their weights and the order of additions are nnU-Net's, in its float16, so that a network
gives the logits that it gives there. But only the rows that tiles still come to are kept, which for
a volume of many classes is a part of the memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    def slabs(self, image: Tensor) -> Iterator[Slab]:
        """Yield the logits of an image ``(C, Z, H, W)``, from its first row to its last.

        Rows are those of the first axis, of an image with a single slice those of the second.

        Raises:
            RuntimeError: The network gives infinite logits.
        """
        return (slab for _, slab in self.slabs_together([image]))

    @torch.inference_mode()
    def slabs_together(self, images: Sequence[Tensor]) -> Iterator[tuple[int, Slab]]:
        """Yield slabs of several images whose tiles share batches, each with its image's number.

        Raises:
            RuntimeError: The network gives infinite logits for one of them.
        """
        walks = [_Walk(self, image) for image in images]
        while any(walk.tiles for walk in walks):
            tiles = [tile for walk in walks for tile in walk.tiles]
            for fold, network in enumerate(self._networks):
                found = self._batches.predict(network, tiles, self._flips, self._activation)
                for walk in walks:
                    walk.add(fold, itertools.islice(found, len(walk.tiles)))
            for number, walk in enumerate(walks):
                slab = walk.go_on()
                if slab is not None:
                    yield number, slab

    def copies_at_once(self, shape: Sequence[int]) -> int:
        """Return the most tiles and mirrored copies that one image asks for at the same time.

        Args:
            shape: Slices, height and width of the image.
        """
        padded = [max(side, least) for side, least in zip(shape, self._place_shape, strict=True)]
        groups = self._groups(padded, 1 if shape[0] == 1 else 0)
        return max(len(group.places) for group in groups) * len(self._flips)

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


class _Walk:
    """One image, group of tiles after group of tiles.

    Attributes:
        tiles: Those that the networks are to be asked about next; none when the image is done.
    """

    def __init__(self, of: SlidingWindow, image: Tensor):
        self._padded, inside = pad_nd_image(
            image, of._patch_size, "constant", {"value": 0}, return_slicer=True
        )
        self._inside = inside[1:]
        self._flat = len(of._patch_size) == 2
        axis = 1 if image.shape[1] == 1 else 0
        shape = self._padded.shape[1:]
        self._groups = of._groups(shape, axis)
        self._ends = [*(group.start for group in self._groups[1:]), shape[axis]]
        self._window = _Window(of, shape, axis, of._place_shape)
        self._number = 0
        self.tiles = self._next_tiles()

    def add(self, fold: int, found: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Add what the network of a fold says of the tiles."""
        if self.tiles:
            places = self._groups[self._number].places
            for place, (logits, probabilities) in zip(places, found, strict=True):
                self._window.add(fold, place, logits, probabilities)

    def go_on(self) -> Slab | None:
        """Return the rows that no further tile comes to, and turn to the next tiles."""
        if not self.tiles:
            return None
        slab = self._window.take(self._ends[self._number], self._inside)
        self._number += 1
        self.tiles = self._next_tiles()
        return slab

    def _next_tiles(self) -> list[Tensor]:
        if self._number == len(self._groups):
            return []
        return [self._tile(place) for place in self._groups[self._number].places]

    def _tile(self, place: _Place) -> Tensor:
        z, y, x = place
        tile = self._padded[:, z, y, x]
        return tile[None, :, 0] if self._flat else tile[None]


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
