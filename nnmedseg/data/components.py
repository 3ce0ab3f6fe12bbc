"""How wide the connected regions of a label map are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SPECK = 0.01
"""Regions below this share of the largest of their label are specks, as masks that were stored as
JPEG have them. They are compared with the largest and not with all together: of a hundred nuclei
each has a hundredth of the area, and none is a speck."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """The connected regions of a label map; arrays of shape ``(R,)``, one entry a region.

    Attributes:
        labels: Which label it has.
        areas: In pixels.
        perimeters: In edges of pixels, those at the image's border and of holes included.
    """

    labels: Integers
    areas: Integers
    perimeters: Integers


@dataclass(frozen=True)
class _Runs:
    """Pixels of one label in a row, from ``starts`` to before ``ends``; in the order of reading."""

    rows: Integers
    starts: Integers
    ends: Integers
    labels: Integers


def region_spans(label_map: npt.NDArray[np.integer]) -> dict[int, npt.NDArray[np.float64]]:
    """Measure the span of each connected region: 4 x area / perimeter, in pixels.

    It is the side of a square, 0.79 of the diameter of a disc, and twice the width of a long line,
    whatever its direction along the axes. Specks are left out.

    Args:
        label_map: Zero for background, ``(H, W)``.

    Returns:
        By label the spans, sorted.
    """
    regions = find_regions(label_map)
    spans = 4 * regions.areas / np.maximum(regions.perimeters, 1)
    found = {}
    for label in np.unique(regions.labels):
        own = regions.labels == label
        large = own & (regions.areas >= SPECK * regions.areas[own].max())
        found[int(label)] = np.sort(spans[large])
    return found


def find_regions(label_map: npt.NDArray[np.integer]) -> Regions:
    """Find the regions of equal label that touch along edges or at corners.

    Time and memory grow with the length of the outlines, beside one comparison for each pixel.

    Args:
        label_map: Zero for background, ``(H, W)``.
    """
    runs = _find_runs(label_map)
    above, below, shared = _touching_runs(runs, label_map.shape[1])
    count = len(runs.rows)
    graph = coo_array((np.ones(len(above), np.bool_), (above, below)), shape=(count, count))
    number, region = connected_components(graph, directed=False)
    lengths = runs.ends - runs.starts
    # Every run has two edges at its ends and two for each pixel, above and below; where another run
    # of its region lies, both lose theirs.
    edges = np.bincount(region, 2 + 2 * lengths, number)
    edges -= np.bincount(region[above], 2 * shared, number)
    labels = np.zeros(number, np.int64)
    labels[region] = runs.labels
    areas = np.bincount(region, lengths, number)
    return Regions(labels, areas.astype(np.int64), edges.astype(np.int64))


def _find_runs(label_map: npt.NDArray[np.integer]) -> _Runs:
    height, width = label_map.shape
    changes = np.ones((height, width + 1), np.bool_)
    np.not_equal(label_map[:, 1:], label_map[:, :-1], out=changes[:, 1:-1])
    rows, columns = np.divmod(np.flatnonzero(changes), width + 1)
    starting = columns[:-1] < width  # what begins at the right border is the end of the last run
    rows, starts, ends = rows[:-1][starting], columns[:-1][starting], columns[1:][starting]
    labels = label_map[rows, starts].astype(np.int64)
    foreground = labels != 0
    return _Runs(rows[foreground], starts[foreground], ends[foreground], labels[foreground])


def _touching_runs(runs: _Runs, width: int) -> tuple[Integers, Integers, Integers]:
    """Return pairs of touching runs of one label in neighbouring rows, and their shared columns.

    Runs that touch at a corner share none.
    """
    stride = width + 2  # so that no run touches one that is two rows further
    starts, ends = runs.rows * stride + runs.starts, runs.rows * stride + runs.ends
    first = np.searchsorted(ends, starts - stride, side="left")
    behind = np.searchsorted(starts, ends - stride, side="right")
    counts = np.maximum(behind - first, 0)
    below = np.repeat(np.arange(len(starts)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    above = np.arange(len(below)) - before + np.repeat(first, counts)
    same = runs.labels[above] == runs.labels[below]
    above, below = above[same], below[same]
    shared = np.minimum(runs.ends[above], runs.ends[below])
    shared -= np.maximum(runs.starts[above], runs.starts[below])
    return above, below, shared
