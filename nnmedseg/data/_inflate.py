"""Decompression that gives what a header claims, checks it, and never gives more."""

from __future__ import annotations

import zlib
from pathlib import Path

import imagecodecs
import numpy as np

from nnmedseg.data._volume import LARGEST_PADDING, check_length, damaged, too_long
from nnmedseg.errors import DataError

GZIP_SIGNATURE = b"\x1f\x8b"
# A deflate stream expands at most 1032 times (258 bytes from 2 bits).
LARGEST_DEFLATE_RATIO = 1032
ANY_WRAPPER = 47
"""zlib's number for "zlib or gzip, whichever the first bytes say"."""
LARGEST_STEP = 2**20


def first_bytes(content: bytes, count: int, path: str | Path) -> bytes:
    """Return at most the first ``count`` bytes of a gzip or zlib stream.

    Raises:
        DataError: It is damaged.
    """
    try:
        return zlib.decompressobj(ANY_WRAPPER).decompress(content, count)
    except zlib.error as error:
        raise damaged(error, path) from error


def inflate(content: bytes | memoryview, size: int, path: str | Path) -> np.ndarray:
    """Decompress a gzip or zlib stream of ``size`` bytes, and little more, to its end.

    Returns:
        uint8, (size,).

    Raises:
        DataError: It is damaged, holds fewer or many more bytes, or its checksum is wrong.
    """
    if size > LARGEST_DEFLATE_RATIO * len(content):
        raise DataError(
            f"the file is truncated: its header needs {size:,} bytes, {len(content):,} compressed "
            "bytes cannot hold them",
            where=path,
            mend="copy or download it again",
        )
    values = np.empty(size, np.uint8)
    gzip = bytes(content[:2]) == GZIP_SIGNATURE
    decode = imagecodecs.gzip_decode if gzip else imagecodecs.zlib_decode
    try:
        if len(decode(content, out=values)) == size:  # type: ignore[arg-type]
            return values
    except (RuntimeError, ValueError):
        pass  # several streams in one, padding or damage: the slow way tells them apart
    _inflate_in_steps(content, values, path)
    return values


def _inflate_in_steps(content: bytes | memoryview, values: np.ndarray, path: str | Path) -> None:
    """Fill ``values`` from one stream or several, and read on to the last checksum."""
    done = 0
    rest: bytes | memoryview = content
    while bytes(rest[:1]).strip(b"\0"):  # gzip allows zeros after the last stream
        stream = zlib.decompressobj(ANY_WRAPPER)
        while not stream.eof:
            try:
                step = stream.decompress(rest, LARGEST_STEP)
            except zlib.error as error:
                raise damaged(error, path) from error
            rest = stream.unconsumed_tail
            kept = step[: max(0, len(values) - done)]
            values[done : done + len(kept)] = np.frombuffer(kept, np.uint8)
            done += len(step)
            if done > len(values) + LARGEST_PADDING:
                raise too_long(len(values), path)
            if not (step or rest or stream.eof):
                raise damaged("the compressed data end too early", path)
        rest = stream.unused_data
    check_length(done, len(values), path)
