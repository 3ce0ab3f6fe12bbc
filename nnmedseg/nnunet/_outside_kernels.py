"""The search for voxels around an object, compiled by numba: see `_nonzero_region`."""

# What numba compiles: it infers the types.
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from nnmedseg.ops._compiled import jit

NEIGHBOURS = np.array([(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)])


@jit
def mark_from(seed, filled, labels, outside):
    """Give empty voxels of label 0 that are connected to an empty one another label.

    Args:
        seed: The empty voxel, (z, y, x).
        filled: (Z, Y, X) bool; what is found becomes true.
        labels: (Z, Y, X), is changed.
        outside: The new label.
    """
    stack = np.empty((64, 3), np.int32)
    stack[0] = seed
    filled[seed] = True
    count = 1
    while count > 0:
        count -= 1
        z, y, x = stack[count]
        if labels[z, y, x] == 0:
            labels[z, y, x] = outside
        if count + len(NEIGHBOURS) > len(stack):
            larger = np.empty((2 * len(stack), 3), np.int32)
            larger[: len(stack)] = stack
            stack = larger
        for dz, dy, dx in NEIGHBOURS:
            i, j, k = z + dz, y + dy, x + dx
            inside = 0 <= i < filled.shape[0] and 0 <= j < filled.shape[1]
            if inside and 0 <= k < filled.shape[2] and not filled[i, j, k]:
                filled[i, j, k] = True
                stack[count] = i, j, k
                count += 1


@jit
def mark_outside(filled, labels, outside):
    """Do so from every empty voxel on a face of the array; otherwise as `mark_from`."""
    depth, height, width = filled.shape
    for z in range(depth):
        for y in range(height):
            inner = 0 < z < depth - 1 and 0 < y < height - 1
            for x in range(0, width, max(width - 1, 1) if inner else 1):
                if not filled[z, y, x]:
                    mark_from((z, y, x), filled, labels, outside)
