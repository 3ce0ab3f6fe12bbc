"""Photographs in 8 bits, with the values that nnU-Net reads."""

import numpy as np
import pytest
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from PIL import Image

from nnmedseg.errors import DataError
from nnmedseg.nnunet.photographs import SPACING, read_photograph


def pixels(*shape, top=256, dtype=np.uint8):
    return np.random.default_rng(sum(shape)).integers(0, top, shape).astype(dtype)


def rgb():
    return Image.fromarray(pixels(20, 30, 3))


def grey():
    return Image.fromarray(pixels(20, 30))


def two_colours():
    return Image.fromarray(pixels(20, 30) > 100)


def sixteen_bits():
    return Image.fromarray(pixels(20, 30, top=60000, dtype=np.uint16))


PLAIN = {
    "rgb.png": rgb,
    "grey.png": grey,
    "rgb.jpg": rgb,
    "grey.jpg": grey,
}
OTHER = {
    "rgb.bmp": rgb,
    "rgb.tif": rgb,
    "grey.tif": grey,
    "rgba.png": lambda: rgb().convert("RGBA"),
    "palette.png": lambda: rgb().quantize(16),
    "two_colours.png": two_colours,
    "sixteen_bits.png": sixteen_bits,
    "cmyk.jpg": lambda: rgb().convert("CMYK"),
}


def by_nnunet(files):
    values, _ = NaturalImage2DIO().read_images([str(file) for file in files])
    return np.moveaxis(values[:, 0], 0, -1)


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_values_are_those_of_nnunet(name, tmp_path):
    made = {**PLAIN, **OTHER}[name]()
    made.save(tmp_path / name)
    assert np.array_equal(read_photograph([tmp_path / name]), by_nnunet([tmp_path / name]))


@pytest.mark.parametrize("name", PLAIN)
def test_what_has_8_bits_is_read_in_8_bits(name, tmp_path):
    PLAIN[name]().save(tmp_path / name)
    assert read_photograph([tmp_path / name]).dtype == np.uint8


def test_grey_files_are_channels_in_the_given_order(tmp_path):
    files = [tmp_path / f"case_000{channel}.png" for channel in (3, 0, 4, 1, 2)]
    for value, file in enumerate(files):
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(file)
    found = read_photograph(files)
    assert found[0, 0].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(found, by_nnunet(files))


def test_one_channel_of_16_bits_among_others_of_8(tmp_path):
    grey().save(tmp_path / "a.png")
    sixteen_bits().save(tmp_path / "b.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    assert np.array_equal(read_photograph(files), by_nnunet(files))


def test_the_spacing_is_the_one_that_nnunet_reports(tmp_path):
    rgb().save(tmp_path / "a.png")
    assert NaturalImage2DIO().read_images([str(tmp_path / "a.png")])[1]["spacing"] == SPACING


@pytest.mark.parametrize("others_shape", [(20, 31), (30, 20)])
def test_channels_of_other_sizes_are_refused(others_shape, tmp_path):
    grey().save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", pixels(*others_shape))
    Image.fromarray(pixels(*others_shape)).save(tmp_path / "b.png")
    for other in ("b.tif", "b.png"):
        with pytest.raises(DataError, match="differ in size"):
            read_photograph([tmp_path / "a.png", tmp_path / other])


@pytest.mark.parametrize("name", [*PLAIN, "rgb.tif", "rgba.png"])
def test_half_a_file_is_named(name, tmp_path):
    {**PLAIN, **OTHER}[name]().save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=name):
        read_photograph([tmp_path / name])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png"):
        read_photograph([tmp_path / "absent.png"])
