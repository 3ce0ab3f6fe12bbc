"""nnU-Net's data loader of images, with less work for the same batches."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from threadpoolctl import ThreadpoolController

from nnmedseg.training.augmentation.quick import quickened
from nnmedseg.training.augmentation.quick_spatial import Draw, QuickSpatial

OUTSIDE = -1
"""nnU-Net's label outside of an image, where the image is 0."""

_Bounds = tuple[int, int]


class SampleLoader(nnUNetDataLoader):
    """Draws the patches that nnU-Net's loader of images draws, from the same generators.

    What a rotation or a scaling needs is known before anything is read, so that no more is; samples
    are made in the batch that they belong to.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._spatial, self._others = _split(self.transforms)
        self._controller: tuple[int, ThreadpoolController] | None = None

    def generate_train_batch(self) -> dict[str, Any]:
        """Return a batch ``(B, C, h, w)``, its targets and the names of its cases."""
        keys = self.get_indices()
        batch: torch.Tensor | None = None
        targets: list[Any] = []
        with torch.no_grad(), self._thread_pools().limit(limits=1):
            for number, key in enumerate(keys):
                with_foreground = self.get_do_oversample(number)
                image, labels, _, properties = self._data.load_case(key)
                if batch is None:
                    batch = torch.empty((len(keys), len(image), *self.final_patch_size[1:]))
                bounds = self.get_bbox(
                    image.shape[1:], with_foreground, properties["class_locations"]
                )
                source = _Source(image, labels, *(int(low) for low in bounds[0]))
                targets.append(self._fill(batch[number], source))
        return {"data": batch, "target": _stacked(targets), "keys": keys}

    def _fill(self, place: torch.Tensor, source: _Source) -> Any:
        """Make a sample in its place in the batch, and return its target."""
        labels = torch.empty((1, *place.shape[1:]), dtype=torch.int16)
        if self._spatial is None:
            height, width = self.patch_size[1:]
            draw = Draw((0, height), (0, width), None)
        else:
            draw = self._spatial.draw(len(place), self.patch_size[1:])
        if self._spatial is None or draw.to_source is None:
            source.copy(draw, place.numpy(), labels[0].numpy())
        else:
            image, mask, moved = source.part(draw)
            self._spatial.sample(image, mask, moved, place.numpy(), labels[0].numpy())
        sample: dict[str, Any] = {"image": place, "segmentation": labels}
        for transform in self._others:
            sample = transform(**sample)
        if sample["image"] is not place:
            place.copy_(sample["image"])
        return sample["segmentation"]

    def _thread_pools(self) -> ThreadpoolController:
        """Return what limits threads; looking for the libraries takes as long as a sample."""
        if self._controller is None or self._controller[0] != os.getpid():
            self._controller = (os.getpid(), ThreadpoolController())
        return self._controller[1]


def _split(transforms: BasicTransform) -> tuple[QuickSpatial | None, list[BasicTransform]]:
    """Return what is done while a patch is cut out, and what is done to it afterwards."""
    each = transforms.transforms if type(transforms) is ComposeTransforms else [transforms]
    spatial = QuickSpatial.of(each[0]) if each else None
    return spatial, [quickened(one) for one in (each if spatial is None else each[1:])]


def _stacked(targets: list[Any]) -> Any:
    if isinstance(targets[0], list):  # one for each output of deep supervision
        return [torch.stack(scale) for scale in zip(*targets, strict=True)]
    return torch.stack(targets)


class _Source(NamedTuple):
    """The initial patch of a case.

    Attributes:
        image: ``(C, Z, H, W)``, of which slices are arrays.
        labels: ``(1, Z, H, W)``, of which slices are arrays.
        level: Of the slice, along z.
        top: First row; may lie outside.
        left: First column; may lie outside.
    """

    image: Any
    labels: Any
    level: int
    top: int
    left: int

    def read(self, draw: Draw) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], int, int]:
        """Return what lies inside of the needed part, and its first row and column there."""
        rows = _inside(draw.rows, self.top, self.image.shape[2])
        columns = _inside(draw.columns, self.left, self.image.shape[3])
        part = (
            slice(None),
            slice(self.level, self.level + 1),
            slice(self.top + rows[0], self.top + rows[1]),
            slice(self.left + columns[0], self.left + columns[1]),
        )
        image = np.asarray(self.image[part], np.float32)[:, 0]
        return image, np.asarray(self.labels[part], np.int16)[0, 0], rows[0], columns[0]

    def copy(
        self, draw: Draw, patch: npt.NDArray[np.float32], labels: npt.NDArray[np.int16]
    ) -> None:
        """Fill a patch ``(C, h, w)`` and its labels ``(h, w)`` with the needed part as it is."""
        image, mask, row, column = self.read(draw)
        if mask.shape != labels.shape:
            patch[:] = 0
            labels[:] = OUTSIDE
        top, left = row - draw.rows[0], column - draw.columns[0]
        target = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        patch[:, target[0], target[1]] = image
        labels[target] = mask

    def part(
        self, draw: Draw
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        """Return what lies inside of the needed part, and the map that leads there."""
        image, mask, row, column = self.read(draw)
        moved = np.array(draw.to_source)
        moved[:, 2] -= row, column
        return np.ascontiguousarray(image), np.ascontiguousarray(mask), moved


def _inside(bounds: _Bounds, start: int, length: int) -> _Bounds:
    """Cut bounds, counted from a start, to those that lie inside of an axis."""
    low = min(max(bounds[0], -start), length - start)
    return low, max(min(bounds[1], length - start), low)
