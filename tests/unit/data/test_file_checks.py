"""Damage that Pillow decodes without a word, and headers that lie about the size."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from nnmedseg.data._decoding import decode
from nnmedseg.data._file_checks import AbsurdSizeError
from nnmedseg.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def encoded(kind: str, image: np.ndarray = NOISE, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(DataError) as error_info:
        decode(content, "image")
    return error_info.value.what


@pytest.mark.parametrize("missing", [1, 4, 12, 14, 1000])
def test_a_png_without_its_end_is_refused(missing):
    assert "truncated" in refusal(encoded("PNG")[:-missing])


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_in_a_png_is_found(chunk):
    content = bytearray(encoded("PNG"))
    start = content.index(chunk) - 4
    (length,) = struct.unpack_from(">I", content, start)
    content[start + 8 + length] ^= 1
    assert chunk.decode() in refusal(bytes(content))


def test_a_wrong_checksum_of_what_the_pixels_do_not_depend_on_is_allowed():
    content = encoded("PNG")
    note = struct.pack(">I", 4) + b"tEXtnote" + b"bad!"
    assert decode(content[:-12] + note + content[-12:], "image").values.shape == NOISE.shape


def test_bytes_after_the_end_are_allowed():
    for kind in ("PNG", "JPEG"):
        assert decode(encoded(kind) + b"more", "image").values.shape == NOISE.shape


def test_a_jpeg_whose_second_half_was_never_written_is_refused():
    """Disks fill up files that were cut off with zeros, which decode as pixels."""
    content = encoded("JPEG")
    half = len(content) // 2
    assert "the end is missing" in refusal(content[:half] + bytes(len(content) - half))


def test_the_end_of_a_thumbnail_is_not_the_end_of_a_jpeg():
    content = encoded("JPEG")
    half = len(content) // 2
    thumbnail = encoded("JPEG", NOISE[:8, :8])
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    damaged = content[:2] + segment + content[2:half] + bytes(half)
    assert "the end is missing" in refusal(damaged)


def test_a_blank_jpeg_is_within_what_its_bytes_can_hold():
    blank = np.full((4000, 4000), 128, np.uint8)
    for options in ({"quality": 1, "optimize": True}, {"quality": 1, "progressive": True}):
        assert decode(encoded("JPEG", blank, **options), "image").values.shape == blank.shape


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
def test_a_blank_tiff_is_within_what_its_bytes_can_hold(compression):
    buffer = io.BytesIO()
    blank = np.zeros((4000, 4000), np.uint8)
    tifffile.imwrite(buffer, blank, compression=compression)
    assert decode(buffer.getvalue(), "image").values.shape == blank.shape


def png_header(width: int, height: int) -> bytes:
    content = bytearray(encoded("PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def bmp_header(width: int, height: int) -> bytes:
    content = bytearray(encoded("BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def jpeg_header(width: int, height: int) -> bytes:
    content = bytearray(encoded("JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff_header(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, NOISE, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as tiff:
        tags = tiff.pages.first.tags
        offsets = {name: tags[name].valueoffset for name in ("ImageWidth", "ImageLength")}
    content = bytearray(buffer.getvalue())
    for name, value in {"ImageWidth": width, "ImageLength": height}.items():
        content[offsets[name] : offsets[name] + 4] = struct.pack("<I", value)
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("header", [png_header, bmp_header, jpeg_header, tiff_header])
@pytest.mark.parametrize("size", [(60_000, 60_000), (11_000, 11_000)])
def test_headers_that_claim_too_much_are_refused_before_decoding(header, size, monkeypatch):
    content = header(*size)

    def must_not_run(*arguments, **options):
        raise AssertionError("decoding was begun")

    monkeypatch.setattr(Image.Image, "load", must_not_run)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", must_not_run)
    monkeypatch.setattr(imagecodecs, "png_decode", must_not_run)
    with pytest.raises(AbsurdSizeError, match="pixels"):
        decode(content, "image")
