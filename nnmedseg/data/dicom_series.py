"""DICOM series: which slices belong together, and the volume that they make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnmedseg.data._dicom import (
    DicomSlice,
    holds_no_image,
    is_dicom,
    read_dicom_slice,
    series_facts,
)
from nnmedseg.data._volume import Grid, Volume, refuse_absurd_sizes, volumes_on_grid
from nnmedseg.errors import DataError

__all__ = ["DicomSeries", "group_by_series", "is_dicom", "read_series"]

LARGEST_UNEVENNESS = 0.2
"""How far a slice may be from where even distances put it, as a share of the distance: positions
are often written with one decimal."""
LARGEST_TILT = 0.5
"""How far the last slice may be shifted sideways against the first one, in pixels."""
SAME_DIRECTION = 1e-4
SAME_PLACE = 1e-3
"""Millimetres."""


@dataclass(frozen=True)
class DicomSeries:
    """Files that belong together.

    Attributes:
        uid: ``SeriesInstanceUID``.
        number: ``SeriesNumber``, or ``None`` if the files have none.
        files: The slices in the order of their names; damaged files are among them.
    """

    uid: str
    number: int | None
    files: tuple[Path, ...]


def group_by_series(files: Sequence[Path]) -> list[DicomSeries]:
    """Tell the series of a folder apart.

    Files that hold no image (directories, reports, contours) are left out. One whose header cannot
    be read may be a slice of any series: where there is one series it is put there, so that its
    volume is refused instead of lacking a slice; otherwise it stands alone.

    Args:
        files: DICOM files of one folder.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    numbers: dict[str, int | None] = {}
    damaged = []
    for path in files:
        if holds_no_image(path):
            continue
        facts = series_facts(path)
        if facts is None:
            damaged.append(path)
        else:
            groups[facts.uid].append(path)
            numbers.setdefault(facts.uid, facts.number)
    if len(groups) == 1:
        ((uid, slices),) = groups.items()
        return [DicomSeries(uid, numbers[uid], tuple(sorted([*slices, *damaged])))]
    whole = [DicomSeries(uid, numbers[uid], tuple(slices)) for uid, slices in groups.items()]
    return [*whole, *(DicomSeries("", None, (path,)) for path in damaged)]


def read_series(files: Sequence[Path]) -> Volume:
    """Read the slices of a series into a volume, float32.

    They are ordered along their normal. A single slice is as thick as its file says.

    Raises:
        DataError: A file cannot be read, or the slices make no volume on an even grid with right
            angles: sizes, spacings or directions differ, slices are missing or doubled, or the
            gantry was tilted.
    """
    folder = files[0].parent
    slices = [read_dicom_slice(path) for path in files]
    if len(slices) > 1:
        _refuse_differences(slices, folder)
        slices.sort(key=lambda one: one.position or 0.0)
    grid = _grid_of(slices, folder)
    depth, (height, width) = len(slices), slices[0].values.shape
    refuse_absurd_sizes((width, height, depth), folder)
    values = np.empty((depth, height, width), np.float32)
    for index in reversed(range(depth)):
        values[index] = slices.pop().values  # so that each is in memory once
    return volumes_on_grid(values[None], grid, folder)[0]


def _refuse_differences(slices: Sequence[DicomSlice], folder: Path) -> None:
    first = slices[0]
    for one in slices:
        if one.corner is None or one.axes is None or one.position is None:
            raise _no_volume("a slice does not say where in the patient it lies", folder)
        if first.axes is None:
            raise _no_volume("a slice does not say how it lies in the patient", folder)
        if one.values.shape != first.values.shape:
            raise _no_volume("the slices differ in size", folder)
        if not np.allclose(one.spacing or (1, 1), first.spacing or (1, 1)):
            raise _no_volume("the slices differ in the distance of their pixels", folder)
        if not np.allclose(one.axes, first.axes, atol=SAME_DIRECTION):
            raise _no_volume("the slices lie in different directions", folder)


def _grid_of(slices: Sequence[DicomSlice], folder: Path) -> Grid:
    """Return the grid of slices in the order of their positions."""
    first, last = slices[0], slices[-1]
    row, column = np.reshape(first.axes or (1, 0, 0, 0, 1, 0), (2, 3))
    normal = np.cross(row, column)
    distance = first.thickness or 1.0
    if len(slices) > 1:
        distance = _distance(np.array([one.position for one in slices], float), folder)
        between = np.subtract(last.corner or (0, 0, 0), first.corner or (0, 0, 0))
        sideways = np.linalg.norm(between - normal * between.dot(normal))
        if sideways > LARGEST_TILT * min(first.spacing or (1, 1)):
            raise _no_volume(
                "the slices are shifted against each other, as with a tilted gantry", folder
            )
    y, x = first.spacing or (1.0, 1.0)
    return Grid(
        np.array([x, y, distance]),
        np.array(first.corner or (0, 0, 0), float),
        np.stack([row, column, normal], axis=1),
    )


def _distance(positions: np.ndarray, folder: Path) -> float:
    """Return the distance of neighbouring slices, which has to be the same all over."""
    if np.diff(positions).min() < SAME_PLACE:
        raise _no_volume(
            "several slices lie at the same place: the series holds phases, echoes or copies",
            folder,
        )
    even = np.linspace(positions[0], positions[-1], len(positions))
    distance = float(even[1] - even[0])
    if np.abs(positions - even).max() > LARGEST_UNEVENNESS * distance:
        steps = np.diff(positions)
        raise _no_volume(
            f"slices are missing or uneven: they are {steps.min():g} to {steps.max():g} mm apart",
            folder,
        )
    return distance


def _no_volume(what: str, folder: Path) -> DataError:
    return DataError(
        f"the slices make no volume: {what}",
        where=folder,
        mend="give all slices of one series, or convert it to .nii.gz",
    )
