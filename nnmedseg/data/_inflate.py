"""Decompression that gives what a header claims, checks it, and never gives more."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
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
LARGEST_PIECE = 2**16


def first_bytes(content: bytes, count: int, path: str | Path) -> bytes:
    """Return the first ``count`` bytes of what gzip compressed, or fewer if it is not that long.

    Raises:
        DataError: It is damaged or ends before that.
    """
    found = b""
    for step in _steps(content, count, path):
        found += step
        if len(found) >= count:
            break
    return found[:count]


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
    done = 0
    for step in _steps(content, LARGEST_STEP, path):
        kept = step[: max(0, size - done)]
        values[done : done + len(kept)] = np.frombuffer(kept, np.uint8)
        done += len(step)
        if done > size + LARGEST_PADDING:
            raise too_long(size, path)
    check_length(done, size, path)
    return values


def _steps(content: bytes | memoryview, largest: int, path: str | Path) -> Iterator[bytes]:
    """Yield what one stream or several behind each other hold, and check their checksums."""
    source = io.BytesIO(content)
    piece = source.read(LARGEST_PIECE)
    while piece.strip(b"\0"):  # gzip allows zeros after the last stream
        stream = zlib.decompressobj(ANY_WRAPPER)
        while not stream.eof:
            piece = piece or source.read(LARGEST_PIECE)
            try:
                step = stream.decompress(piece, largest)
            except zlib.error as error:
                raise damaged(error, path) from error
            if not (step or piece or stream.eof):
                raise damaged("the compressed data end too early", path)
            piece = stream.unconsumed_tail
            yield step
        piece = stream.unused_data or source.read(LARGEST_PIECE)
