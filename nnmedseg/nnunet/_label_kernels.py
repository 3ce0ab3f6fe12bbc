"""Linear resampling of label maps, compiled by numba: see `_label_resampling`."""

# What numba compiles: it infers the types.
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from nnmedseg.ops._compiled import jit

TAPS = 8
MIXED = -(2**15)
"""Stands for a column of voxels with several labels; no label of an int16 map has this value."""


@jit
def winner(labels, weights, nearest):
    """Return the label with the largest sum of weights, summed in the order of the voxels.

    If the nearest voxel's label is among those with the largest sum, it wins; else the smallest
    of them does.
    """
    best, best_label, nearest_sum = -1.0, labels[0], -1.0
    for i in range(TAPS):
        total = 0.0
        for j in range(TAPS):
            if labels[j] == labels[i]:
                total += weights[j]
        total = min(total, 1.0)
        if total > best or (total == best and labels[i] < best_label):
            best, best_label = total, labels[i]
        if labels[i] == nearest:
            nearest_sum = total
    return nearest if nearest_sum == best else best_label


@jit
def resize(volume, z_taps, y_taps, x_taps, out):
    """Resize a label map (Z, Y, X) int16 into ``out``.

    Args:
        volume: (Z, Y, X).
        z_taps: First neighbours (Z',), their weights (Z', 2), and nearest voxels (Z',).
        y_taps: The same for the y axis.
        x_taps: The same for the x axis.
        out: (Z', Y', X').
    """
    z_starts, z_weights, z_nearest = z_taps
    y_starts, y_weights, y_nearest = y_taps
    x_starts, x_weights, x_nearest = x_taps
    depth, height, width = volume.shape
    common = np.empty(width, np.int16)
    labels = np.empty(TAPS, np.int16)
    weights = np.empty(TAPS)
    for z in range(out.shape[0]):
        first_z, second_z = z_starts[z], min(z_starts[z] + 1, depth - 1)
        for y in range(out.shape[1]):
            first_y, second_y = y_starts[y], min(y_starts[y] + 1, height - 1)
            for j in range(width):
                label = volume[first_z, first_y, j]
                same = (
                    (label == volume[first_z, second_y, j])
                    & (label == volume[second_z, first_y, j])
                    & (label == volume[second_z, second_y, j])
                )
                common[j] = label if same else MIXED
            for x in range(out.shape[2]):
                first_x, second_x = x_starts[x], min(x_starts[x] + 1, width - 1)
                label = common[first_x]
                if label == common[second_x] and label != MIXED:
                    out[z, y, x] = label
                    continue
                for i in range(TAPS):
                    a, b, c = i >> 2, (i >> 1) & 1, i & 1
                    labels[i] = volume[
                        second_z if a else first_z,
                        second_y if b else first_y,
                        second_x if c else first_x,
                    ]
                    weights[i] = z_weights[z, a] * y_weights[y, b] * x_weights[x, c]
                nearest = volume[z_nearest[z], y_nearest[y], x_nearest[x]]
                out[z, y, x] = winner(labels, weights, nearest)
