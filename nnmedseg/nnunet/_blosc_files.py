"""Arrays written as nnU-Net's store has them, by threads that do not wait for each other.

``blosc2.asarray`` compresses while it holds Python's global lock. Handed over chunk by chunk,
arrays are compressed outside it.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import blosc2
import numpy as np

CODEC = blosc2.Codec.LZ4HC
FILTERS = (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE)
"""The one that makes the middle chunk smaller is taken, as in nnU-Net."""

Sizes = tuple[int, ...]


def write_array(
    array: np.ndarray, path: str | Path, chunks: Sizes, blocks: Sizes, level: int
) -> None:
    """Write an array to a ``.b2nd`` file.

    Args:
        array: Of any shape.
        path: File to write.
        chunks: Shape of what is compressed at once, no larger than the array.
        blocks: Shape of what is decompressed at once, no larger than a chunk.
        level: How hard to compress, 1 to 9.
    """
    _use_one_thread()
    middle = array[
        tuple(
            slice((size - chunk) // 2, (size - chunk) // 2 + chunk)
            for size, chunk in zip(array.shape, chunks, strict=True)
        )
    ]
    trials = {one: _compress(middle, chunks, blocks, level, one) for one in FILTERS}
    better = min(FILTERS, key=lambda one: trials[one].schunk.cbytes)
    whole = array.shape == tuple(chunks)
    compressed = trials[better] if whole else _compress(array, chunks, blocks, level, better)
    Path(path).write_bytes(compressed.to_cframe())


def _use_one_thread() -> None:
    """Keep Blosc2 from starting threads, and from holding Python's global lock meanwhile.

    For the index of the chunks it starts threads anew with every chunk, whatever an array asks
    for; only the variable stops that. Volumes of many small chunks take half the time without.
    """
    os.environ.setdefault("BLOSC_NTHREADS", "1")
    blosc2.set_nthreads(1)
    blosc2.set_releasegil(True)


def _compress(
    array: np.ndarray, chunks: Sizes, blocks: Sizes, level: int, one: blosc2.Filter
) -> blosc2.NDArray:
    """Return the array, compressed in memory by this thread alone."""
    compressed = blosc2.empty(
        array.shape,
        array.dtype,
        chunks=chunks,
        blocks=blocks,
        cparams={"codec": CODEC, "clevel": level, "nthreads": 1, "filters": [one]},
        dparams={"nthreads": 1},
    )
    for number, values in enumerate(_chunk_contents(array, chunks, blocks)):
        compressed.schunk.update_data(number, values, copy=False)
    return compressed


def _chunk_contents(array: np.ndarray, chunks: Sizes, blocks: Sizes) -> Iterator[np.ndarray]:
    """Yield chunks as Blosc2 NDim lays them out: whole blocks one after the other, zero-padded."""
    counts = [math.ceil(chunk / block) for chunk, block in zip(chunks, blocks, strict=True)]
    padded = [count * block for count, block in zip(counts, blocks, strict=True)]
    interleaved = [size for pair in zip(counts, blocks, strict=True) for size in pair]
    blocks_first = [*range(0, len(interleaved), 2), *range(1, len(interleaved), 2)]
    starts = (range(0, size, chunk) for size, chunk in zip(array.shape, chunks, strict=True))
    for corner in itertools.product(*starts):
        part = array[
            tuple(slice(start, start + size) for start, size in zip(corner, chunks, strict=True))
        ]
        content = np.zeros(padded, array.dtype)
        content[tuple(slice(size) for size in part.shape)] = part
        yield np.ascontiguousarray(content.reshape(interleaved).transpose(blocks_first))
