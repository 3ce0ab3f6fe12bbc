"""Natural images and masks, read as independent decoders read them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image
from skimage import io as skimage_io

from nnmedseg.data.images import (
    image_size,
    read_image,
    read_mask,
    to_rgb,
)
from nnmedseg.errors import DataError

REPOSITORY = Path(__file__).parents[3]
ISIC = REPOSITORY / "tests" / "data" / "ISIC2018"
PHOTO = ISIC / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000222.jpg"
MASK = ISIC / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000222_segmentation.png"
SAMPLES = REPOSITORY / ".." / "shared" / "data"

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="sample data sets are not here")


@pytest.fixture
def photo() -> np.ndarray:
    return read_image(PHOTO)


def save(image: np.ndarray, path: Path, **options) -> Path:
    """Write with a library that is not under test."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, image, **options)
    else:
        Image.fromarray(image).save(path, **options)
    return path


@pytest.mark.parametrize("path", sorted(ISIC.glob("*_Input/*.jpg")), ids=lambda path: path.stem)
def test_jpeg_is_read_as_libjpeg_reads_it(path):
    assert np.array_equal(read_image(path), imagecodecs.jpeg_decode(path.read_bytes()))


@pytest.mark.parametrize("path", sorted(ISIC.glob("*GroundTruth*/*.png")), ids=lambda p: p.stem)
def test_png_is_read_as_libpng_reads_it(path):
    assert np.array_equal(read_image(path), imagecodecs.png_decode(path.read_bytes()))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("kind", ["colour", "grey"])
def test_lossless_formats_are_read_exactly(photo, tmp_path, ending, kind):
    image = photo if kind == "colour" else photo[..., 1]
    assert np.array_equal(read_image(save(image, tmp_path / f"image{ending}")), image)


@needs_samples
def test_the_tiff_files_of_clinicdb_are_read_in_colour_and_exactly():
    """Their samples lie uncompressed in one run, row by row, whatever their tags say."""
    paths = sorted(SAMPLES.glob("CVC-ClinicDB/CVC-ClinicDB/Original/*.tif"))
    assert paths
    for path in paths:
        image = read_image(path)
        assert image.shape == (288, 384, 3)
        assert image.tobytes() in path.read_bytes()


@needs_samples
@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("PH2/**/*Dermoscopic*/*.bmp")), ids=lambda p: p.stem
)
def test_bmp_is_read_as_simpleitk_reads_it(path):
    reader = SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorUInt8)
    assert np.array_equal(read_image(path), SimpleITK.GetArrayFromImage(reader))


def test_the_first_bytes_decide_about_the_format(photo, tmp_path):
    save(photo, tmp_path / "image.tif").rename(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), photo)


def test_palette_gives_its_colours(photo, tmp_path):
    indexed = Image.fromarray(photo).quantize(32)
    indexed.save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), np.asarray(indexed.convert("RGB")))


def test_alpha_is_dropped(photo, tmp_path):
    alpha = np.full(photo.shape[:2], 7, np.uint8)
    save(np.dstack([photo, alpha]), tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), photo)


def test_alpha_of_tiff_is_dropped(photo, tmp_path):
    stored = np.dstack([photo, photo[..., :1]])
    save(stored, tmp_path / "image.tif", photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read_image(tmp_path / "image.tif"), photo)


def test_planes_of_tiff_become_channels(photo, tmp_path):
    planes = np.moveaxis(photo, -1, 0)
    save(planes, tmp_path / "image.tif", photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "image.tif"), photo)


def test_white_is_zero_in_some_tiff_files(photo, tmp_path):
    save(255 - photo[..., 0], tmp_path / "image.tif", photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "image.tif"), photo[..., 0])


def test_16_bit_colour_keeps_16_bits(tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) * 999
    (tmp_path / "image.png").write_bytes(imagecodecs.png_encode(image))
    assert np.array_equal(read_image(tmp_path / "image.png"), image)


def test_one_bit_images_are_black_and_white(tmp_path):
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), np.eye(9, dtype=np.uint8) * 255)


def test_printing_colours_become_rgb(photo, tmp_path):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "image.jpg", quality=100)
    image = read_image(tmp_path / "image.jpg")
    assert image.shape == photo.shape
    assert np.abs(image.astype(int) - photo).mean() < 3


def test_images_are_not_rotated_by_exif(photo, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # "rotate by 90 degrees"
    Image.fromarray(photo).save(tmp_path / "image.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "image.png"), photo)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif"])
def test_size_needs_the_header_only(photo, tmp_path, ending):
    path = save(photo, tmp_path / f"image{ending}")
    if ending != ".tif":  # tifffile writes the header in front, but other programs do not
        path.write_bytes(path.read_bytes()[:700])
    assert image_size(path) == photo.shape[:2]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_files_are_refused_by_name(photo, tmp_path, ending, share):
    path = save(photo, tmp_path / f"image{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="damaged") as raised:
        read_image(path)
    assert raised.value.where == path


def test_compressed_tiff_without_its_last_bytes_is_refused(photo, tmp_path):
    path = save(photo, tmp_path / "image.tif", compression="jpeg")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="missing at the end"):
        read_image(path)


def test_a_changed_byte_in_a_png_is_noticed(photo, tmp_path):
    path = save(photo, tmp_path / "image.png", compress_level=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a sample, so that decoders see nothing wrong
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize(("content", "message"), [(b"", "empty"), (b"<html>404", "not a PNG")])
def test_files_that_are_no_images_are_refused(tmp_path, content, message):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for read in (read_image, read_mask, image_size):
        with pytest.raises(DataError, match=message):
            read(path)


def test_missing_files_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as raised:
        read_image(tmp_path / "image.png")
    assert raised.value.where == tmp_path / "image.png"


def assemble_png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    return content


def claim_png_size(width: int, height: int) -> bytes:
    return assemble_png(width, height, 8, 2, b"\0" * 1000)


def claim_bmp_size(width: int, height: int) -> bytes:
    start = struct.pack("<2sIHHI", b"BM", 1054, 0, 0, 54)
    return start + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def claim_tiff_size(width: int, height: int) -> bytes:
    small = io.BytesIO()
    tifffile.imwrite(small, np.zeros((77, 99), np.uint8))
    content = small.getvalue()
    changed = content.replace(struct.pack("<I", 77), struct.pack("<I", height))
    return changed.replace(struct.pack("<I", 99), struct.pack("<I", width))


def claim_jpeg_size(width: int, height: int) -> bytes:
    content = PHOTO.read_bytes()
    shape = image_size(PHOTO)
    return content.replace(struct.pack(">HH", *shape), struct.pack(">HH", height, width))


@pytest.mark.parametrize(
    ("claim", "size", "message"),
    [
        (claim_png_size, (2**31 - 1, 2**31 - 1), "at most"),
        (claim_png_size, (10_000, 10_000), "bytes cannot hold"),
        (claim_bmp_size, (2**30, 2**30), "at most"),
        (claim_tiff_size, (2**31, 2**31), "at most"),
        (claim_jpeg_size, (65_500, 65_500), "at most"),
        (claim_jpeg_size, (12_000, 12_000), "at most"),
    ],
)
def test_absurd_sizes_are_refused_at_the_header(tmp_path, claim, size, message):
    path = tmp_path / "image"
    path.write_bytes(claim(*size))
    with pytest.raises(DataError, match=message):
        read_image(path)


def test_tiff_with_several_images_is_refused(photo, tmp_path):
    save(np.stack([photo[..., 0]] * 3), tmp_path / "image.tif", photometric="minisblack")
    with pytest.raises(DataError, match="more than one image"):
        read_image(tmp_path / "image.tif")


def test_real_numbers_are_refused_by_their_type(photo, tmp_path):
    save(photo[..., 0] / np.float32(255), tmp_path / "image.tif")
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="float32"):
            read(tmp_path / "image.tif")


def test_grey_becomes_three_equal_channels(photo):
    grey = photo[..., 0]
    assert np.array_equal(to_rgb(grey), np.stack([grey] * 3, axis=-1))


def test_colour_stays_as_it_is(photo):
    assert np.array_equal(to_rgb(photo), photo)


@pytest.mark.parametrize(("largest", "expected"), [(65535, 255), (4095, 255), (100, 100)])
def test_16_bit_images_keep_the_highest_bits_they_use(largest, expected):
    image = np.array([[0, largest // 2, largest]], np.uint16)
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb[0, :, 0].tolist() == [0, expected // 2, expected]


def as_png(values: np.ndarray, path: Path, mode: str) -> Path:
    image = Image.fromarray(values)
    image.convert(mode).save(path)
    return path


FOREGROUND = np.zeros((24, 32), bool)
FOREGROUND[5:12, 8:30] = True


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_masks_of_0_and_255_are_read_in_every_mode(tmp_path, mode):
    path = as_png(FOREGROUND.astype(np.uint8) * 255, tmp_path / "mask.png", mode)
    mask = read_mask(path)
    assert np.array_equal(mask.pixels, FOREGROUND)
    assert mask.pixels.dtype == bool
    assert mask.in_between == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("label", [1, 2, 30])
def test_label_maps_do_not_vanish_under_a_threshold(tmp_path, dtype, label):
    labels = FOREGROUND.astype(dtype)
    labels[6] *= label
    mask = read_mask(save(labels, tmp_path / "mask.tif"))
    assert np.array_equal(mask.pixels, FOREGROUND)
    assert mask.in_between == 0


def test_grey_of_fewer_than_8_bits_is_a_label_map(tmp_path):
    (tmp_path / "mask.png").write_bytes(assemble_png(4, 1, 4, 0, b"\0\x01\x8f"))
    mask = read_mask(tmp_path / "mask.png")
    assert mask.pixels.tolist() == [[False, True, True, True]]


def test_16_bit_masks_are_divided_at_half_of_their_range(tmp_path):
    values = np.array([[0, 32767, 32768, 65535]], np.uint16)
    mask = read_mask(save(values, tmp_path / "mask.tif"))
    assert mask.pixels.tolist() == [[False, False, True, True]]
    assert mask.in_between == 2


def test_8_bit_masks_are_divided_at_128(tmp_path):
    values = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    mask = read_mask(save(values, tmp_path / "mask.png"))
    assert mask.pixels.tolist() == [[False, False, False, True, True, True]]
    assert mask.in_between == 4


def test_indices_of_a_coloured_palette_are_labels(tmp_path):
    image = Image.fromarray(FOREGROUND.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png").pixels, FOREGROUND)


def test_a_palette_of_greys_is_looked_up(tmp_path):
    image = Image.fromarray(FOREGROUND.astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])  # the index 0 is white
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png").pixels, ~FOREGROUND)


def test_an_empty_jpeg_mask_stays_empty(tmp_path):
    noise = np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "mask.jpg")
    assert not read_mask(tmp_path / "mask.jpg").pixels.any()


def test_photographs_are_no_masks(photo, tmp_path):
    for ending in (".png", ".jpg"):
        with pytest.raises(DataError, match="black and white"):
            read_mask(save(photo, tmp_path / f"mask{ending}"))


@needs_samples
def test_the_jpeg_masks_of_kvasir_are_divided_between_their_two_clusters():
    paths = sorted(SAMPLES.glob("Kvasir-SEG/Kvasir-SEG/masks/*.jpg"))
    assert paths
    for path in paths:
        values = imagecodecs.jpeg_decode(path.read_bytes())[..., 0]
        mask = read_mask(path)
        assert np.array_equal(mask.pixels, values > 127)
        assert mask.in_between == ((values > 0) & (values < values.max())).sum()


@needs_samples
@pytest.mark.parametrize(
    ("pattern", "foreground"),
    [
        ("PH2/**/*_lesion/*.bmp", lambda values: values > 0),
        ("BUSI/**/*_mask*.png", lambda values: values > 0),
        ("GlaS/**/*_anno.bmp", lambda values: values > 0),
        ("CVC-ColonDB/**/p*.tif*", lambda values: values > 127),
    ],
)
def test_masks_of_public_data_sets_agree_with_an_independent_reading(pattern, foreground):
    paths = sorted(SAMPLES.glob(pattern))
    assert paths
    for path in paths:
        values = skimage_io.imread(path)
        values = values if values.ndim == 2 else values[..., 0]
        assert np.array_equal(read_mask(path).pixels, foreground(values)), path.name
