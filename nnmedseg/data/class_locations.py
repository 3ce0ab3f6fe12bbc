"""Where the pixels of each class are, for patches that are to show one.

nnU-Net keeps four 64-bit coordinates of 10,000 pixels a class and case, and reads all of them to
use one. Here a pixel is one number, and is turned into coordinates when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.errors import DataError

Key = int | tuple[int, ...]
Flat = npt.NDArray[np.int32]

SEED = 1234
LEAST_SAMPLES = 10_000
LEAST_COVERAGE = 0.01


def classes_to_locate(labels: Mapping[str, Any]) -> list[Key]:
    """Return the classes whose pixels nnU-Net samples patches around.

    Args:
        labels: ``labels`` of dataset.json: numbers, or lists of numbers for regions.

    Returns:
        The regions if there are any, else the labels without background; and, where there is an
        ignore label, all annotated labels together with what is outside of the image.
    """
    values = {name: value for name, value in labels.items() if name != "ignore"}
    parts = {name: _parts(value) for name, value in values.items()}
    every = sorted({label for part in parts.values() for label in part})
    classes: list[Key]
    if any(len(part) > 1 for part in parts.values()):
        classes = [
            parts[name] if isinstance(value, list | tuple) else parts[name][0]
            for name, value in values.items()
            if set(parts[name]) != {0}
        ]
    else:
        classes = [label for label in every if label != 0]
    if "ignore" in labels:
        classes.append((-1, *every))
    return classes


def _parts(value: Any) -> tuple[int, ...]:
    return tuple(int(x) for x in value) if isinstance(value, list | tuple) else (int(value),)


def sample_locations(labels: npt.NDArray[np.integer], classes: Sequence[Key]) -> dict[Key, Flat]:
    """Draw the pixels that nnU-Net's preprocessor draws, in its order.

    Args:
        labels: ``(H, W)``.
        classes: As `classes_to_locate` returns them.

    Returns:
        Positions in ``labels.ravel()`` by class, at least 10,000 and a hundredth of its pixels, or
        all where there are fewer.
    """
    random = np.random.RandomState(SEED)  # nnU-Net's, for the same pixels
    pixels = labels.ravel()
    sampled: dict[Key, Flat] = {}
    for key in classes:
        parts = key if isinstance(key, tuple) else (key,)
        found = [np.flatnonzero(pixels == label) for label in parts]
        total = sum(len(positions) for positions in found)
        wanted = max(min(LEAST_SAMPLES, total), int(np.ceil(total * LEAST_COVERAGE)))
        if total == 0:
            sampled[key] = np.zeros(0, np.int32)
            continue
        chosen = random.choice(total, wanted, replace=False)
        every = found[0] if len(found) == 1 else np.concatenate(found)
        sampled[key] = every[chosen].astype(np.int32)
    return sampled


class Locations:
    """Pixels of one class, as nnU-Net's array of coordinates, read when one is asked for.

    Args:
        read: Returns positions in the plane, ``(N,)``.
        count: How many they are.
        shape: Height and width of the plane.
    """

    ndim = 2
    dtype = np.dtype(np.int64)

    def __init__(self, read: Callable[[], Flat], count: int, shape: tuple[int, int]):
        self._read = read
        self._width = shape[1]
        self.shape = (count, 4)

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def _flat(self) -> Flat:
        return self._read()

    def __getitem__(self, index: Any) -> npt.NDArray[np.int64]:
        """Return coordinates ``(channel, z, y, x)``, the first two always zero."""
        if isinstance(index, tuple):
            return np.asarray(self)[index]
        flat = np.asarray(self._flat[index], np.int64)
        coordinates = np.zeros((*flat.shape, 4), np.int64)
        coordinates[..., 2], coordinates[..., 3] = np.divmod(flat, self._width)
        return coordinates

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self[:],)  # another process has no use for the open file

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        return iter(self[:])


def to_flat(locations: Any, shape: tuple[int, int]) -> Flat:
    """Return positions in a plane from coordinates ``(N, 4)`` or `Locations`.

    Raises:
        DataError: A pixel lies outside of the plane.
    """
    coordinates = np.asarray(locations, np.int64).reshape(-1, 4)
    flat = coordinates[:, 2] * shape[1] + coordinates[:, 3]
    if len(flat) and (flat.min() < 0 or flat.max() >= shape[0] * shape[1]):
        raise DataError("a location of a class lies outside of the image")
    return flat.astype(np.int32)
