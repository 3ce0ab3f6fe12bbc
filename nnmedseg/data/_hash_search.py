"""Pairs of perceptual hashes that differ in few bits, among all pairs and orientations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nnmedseg.data._appearance import HASH_SIDE, SYMMETRIES, hash_signs, orient_signs

RADIUS = 40
"""Largest number of bits, of 256, by which candidates differ; see ``HASH_SIDE`` for what was
measured: copies differ by up to 25, different pictures by 54 and more."""
BLOCK = 2048
"""Images compared with as many others at once; the products of a block take 16 MiB."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of images that may show the same.

    Attributes:
        first: Index of the one image, (N,).
        second: Index of the other, larger than ``first``, (N,).
        symmetry: The orientation to which the other is to be brought, (N,).
    """

    first: np.ndarray
    second: np.ndarray
    symmetry: np.ndarray

    def as_tuples(self) -> Iterator[tuple[int, int, int]]:
        """Iterate over ``(first, second, symmetry)``."""
        return zip(self.first.tolist(), self.second.tolist(), self.symmetry.tolist(), strict=True)


def close_hashes(hashes: list[str]) -> Candidates:
    """Find all pairs of hashes within the radius; 20,000 hashes take some ten seconds.

    Two hashes of ones and minus ones that differ in d of 256 bits have the product 256 - 2 d, so
    that a matrix product compares thousands with thousands.
    """
    signs = hash_signs(hashes)
    least = HASH_SIDE**2 - 2 * RADIUS
    found = [np.zeros((0, 3), np.intp)]
    for rows, columns in _blocks(len(signs)):
        here = signs[rows].reshape(-1, HASH_SIDE**2)
        for symmetry in range(SYMMETRIES):
            oriented = orient_signs(signs[columns], symmetry).reshape(-1, HASH_SIDE**2)
            products = here @ oriented.T
            if products.max() >= least:
                first, second = np.nonzero(products >= least)
                first, second = first + rows.start, second + columns.start
                pairs = np.stack((first, second, np.full_like(first, symmetry)), axis=1)
                found.append(pairs[first < second])
    return Candidates(*np.concatenate(found).T)


def _blocks(count: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, count, BLOCK):
        for column in range(row, count, BLOCK):
            yield slice(row, row + BLOCK), slice(column, column + BLOCK)
