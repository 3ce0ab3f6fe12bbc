"""Sampling a patch out of an image, and mirroring one, compiled by numba: see `quick_spatial`."""

# What numba compiles: it infers the types.
# mypy: allow-untyped-defs

from __future__ import annotations

import math

import numpy as np

from nnmedseg.ops._compiled import jit

SCORE = np.float32(1000)
SLACK = 1e-6
"""Pixels."""

SPLIT = np.float32(2**13 + 1)
"""Splits a float32 into the 11 digits that a float16 keeps, and the rest."""


@jit
def as_float16(score):
    """Round as float16 does, in which nnU-Net compares the scores of labels."""
    shifted = SPLIT * score
    return shifted - (shifted - score)


@jit
def share(down, right, shares):
    """Fill how much of a point between four pixels each has, row by row."""
    up, before = np.float32(1) - down, np.float32(1) - right
    shares[0], shares[1] = up * before, up * right
    shares[2], shares[3] = down * before, down * right


@jit
def settle(labels, shares):
    """Return the label with the largest score; of equal ones the nearest pixel's, else the least.

    Args:
        labels: Of four pixels.
        shares: Of the pixels.
    """
    nearest = labels[np.argmax(shares)]
    best, best_label, nearest_score = np.float32(-1), labels[0], np.float32(-1)
    for i in range(4):
        total = np.float32(0)
        for j in range(4):
            if labels[j] == labels[i]:
                total += shares[j] * SCORE
        total = as_float16(total)
        if total > best or (total == best and labels[i] < best_label):
            best, best_label = total, labels[i]
        if labels[i] == nearest:
            nearest_score = total
    return nearest if nearest_score == best else best_label


@jit
def inside(start, step, last, count):
    """Return from and up to which of ``count`` steps a position lies between 0 and ``last``."""
    if step == 0:
        return (0, count) if 0 <= start < last else (0, 0)
    first, end = -start / step, (last - start) / step
    if first > end:
        first, end = end, first
    # What rounding might put outside is left to those who look at each pixel.
    low = min(max(math.ceil(first + SLACK), 0), count)
    return low, max(min(math.floor(end - SLACK) + 1, count), low)


@jit
def fill_row(image, mask, between, patch, patch_mask):
    """Fill pixels of a row whose four neighbours all lie inside.

    Args:
        image: (C, H, W).
        mask: (H, W).
        between: Number of the upper left neighbour, and shares of the lower and the right ones,
            (n,) each.
        patch: (C, n), is filled.
        patch_mask: (n,), is filled.
    """
    first, down, right = between
    one = np.float32(1)
    line, after = np.uint64(image.shape[2]), np.uint64(1)
    for c in range(len(image)):
        plane, target = image[c].reshape(-1), patch[c]
        for j in range(len(first)):
            o = first[j]
            before = one - right[j]
            upper = plane[o] * before + plane[o + after] * right[j]
            o += line
            lower = plane[o] * before + plane[o + after] * right[j]
            target[j] = upper * (one - down[j]) + lower * down[j]
    labels = mask.reshape(-1)
    four, shares = np.empty(4, np.int16), np.empty(4, np.float32)
    for j in range(len(first)):
        o = first[j]
        a, b, c, d = labels[o], labels[o + after], labels[o + line], labels[o + line + after]
        if a != b or a != c or a != d:
            four[0], four[1], four[2], four[3] = a, b, c, d
            share(down[j], right[j], shares)
            a = settle(four, shares)
        patch_mask[j] = a


@jit
def fill_at_border(planes, y, x, values, memory):
    """Fill the values (C,) of a point of which neighbours may lie outside; return its label."""
    image, mask, outside = planes
    four, shares = memory
    channels, height, width = image.shape
    top, left = math.floor(y), math.floor(x)
    share(np.float32(y - top), np.float32(x - left), shares)
    values[:] = 0
    for k in range(4):
        row, column = top + (k >> 1), left + (k & 1)
        four[k] = outside
        if 0 <= row < height and 0 <= column < width:
            four[k] = mask[row, column]
            for c in range(channels):
                values[c] += image[c, row, column] * shares[k]
    return settle(four, shares)


@jit
def sample(planes, to_source, patch, patch_mask):
    """Fill a patch from where an affine map leads, linearly, and its labels by the largest share.

    Args:
        planes: Image (C, H, W), 0 outside; labels (H, W); label outside.
        to_source: (2, 3): row and column in the image from row, column and 1 of the patch.
        patch: (C, h, w), is filled.
        patch_mask: (h, w), is filled.
    """
    image, mask, _ = planes
    height, width = mask.shape
    rows, columns = patch_mask.shape
    first = np.empty(columns, np.uint64)
    down, right = np.empty(columns, np.float32), np.empty(columns, np.float32)
    memory = (np.empty(4, np.int16), np.empty(4, np.float32))
    step_y, step_x = to_source[0, 1], to_source[1, 1]
    for i in range(rows):
        start_y = to_source[0, 0] * i + to_source[0, 2]
        start_x = to_source[1, 0] * i + to_source[1, 2]
        low_y, high_y = inside(start_y, step_y, height - 1, columns)
        low_x, high_x = inside(start_x, step_x, width - 1, columns)
        low = max(low_y, low_x)
        high = max(min(high_y, high_x), low)
        for j in range(low, high):
            y, x = start_y + step_y * j, start_x + step_x * j
            top, left = int(y), int(x)  # neither is negative
            first[j] = top * width + left
            down[j], right[j] = y - top, x - left
        between = (first[low:high], down[low:high], right[low:high])
        fill_row(image, mask, between, patch[:, i, low:high], patch_mask[i, low:high])
        for j in range(columns):
            if j < low or j >= high:
                y, x = start_y + step_y * j, start_x + step_x * j
                patch_mask[i, j] = fill_at_border(planes, y, x, patch[:, i, j], memory)


@jit
def mirror(planes, rows, columns):
    """Reverse the rows, the columns or both of planes (C, H, W) in place."""
    count, height, width = planes.shape
    for c in range(count):
        plane = planes[c]
        if columns:
            for i in range(height):
                for j in range(width // 2):
                    kept = plane[i, j]
                    plane[i, j] = plane[i, width - 1 - j]
                    plane[i, width - 1 - j] = kept
        if rows:
            for i in range(height // 2):
                for j in range(width):
                    kept = plane[i, j]
                    plane[i, j] = plane[height - 1 - i, j]
                    plane[height - 1 - i, j] = kept
