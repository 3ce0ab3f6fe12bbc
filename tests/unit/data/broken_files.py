"""Files that are damaged, of another format or size, or hold what they should not."""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import tifffile
from PIL import Image

from .broken_data_sets import DESCRIPTION, IMAGE, LABEL, VOLUME, VOLUME_LABEL, BrokenDataSets, cut
from .raw_data_sets import (
    TRAINING,
    change_json,
    encoded,
    label,
    natural_images,
    picture,
    save,
    volume,
    volume_label,
    volumes,
    write_nifti,
    write_volume,
)

BROKEN = BrokenDataSets()
broken = BROKEN.add


# Damaged files


@broken("empty", IMAGE)
def _(folder):
    (folder / IMAGE).write_bytes(b"")


@broken("empty", VOLUME_LABEL, volumes)
def _(folder):
    (folder / VOLUME_LABEL).write_bytes(b"")


@broken("wrong-format", IMAGE)
def _(folder):
    (folder / IMAGE).write_bytes(encoded("JPEG", picture(50)))


@broken("wrong-format", IMAGE)
def _(folder):
    tifffile.imwrite(folder / "image.tif", picture(50))
    (folder / "image.tif").rename(folder / IMAGE)


@broken("wrong-format", LABEL)
def _(folder):
    (folder / LABEL).write_text("404: Not Found")


@broken("wrong-format", VOLUME, volumes)
def _(folder):
    nibabel.save(nibabel.load(folder / VOLUME), folder / "plain.nii")
    (folder / "plain.nii").rename(folder / VOLUME)


@broken("damaged", IMAGE)
def _(folder):
    cut(folder / IMAGE, 0.5)


@broken("damaged", LABEL)
def _(folder):
    """A bit has flipped on the disk, and the label decodes nevertheless."""
    content = bytearray((folder / LABEL).read_bytes())
    content[content.index(b"IDAT") - 8] ^= 1
    (folder / LABEL).write_bytes(content)


@broken("damaged", VOLUME, volumes)
def _(folder):
    cut(folder / VOLUME, 0.9)


@broken("absurd-size", IMAGE)
def _(folder):
    content = bytearray((folder / IMAGE).read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / IMAGE).write_bytes(content)


@broken("absurd-size", LABEL)
def _(folder):
    """A decompression bomb of 50,000 x 50,000 pixels in 13 kB."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(13_000_000), 9)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    (folder / LABEL).write_bytes(content)


def claim(path: Path, size: tuple[int, int, int]) -> None:
    """Replace the size in the header of a compressed NIfTI file."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = struct.pack("<3h", *size)
    path.write_bytes(gzip.compress(bytes(content)))


@broken("damaged", VOLUME, volumes)
def _(folder):
    claim(folder / VOLUME, (1000, 1000, 1000))


@broken("damaged", VOLUME_LABEL, volumes)
def _(folder):
    claim(folder / VOLUME_LABEL, (32000, 32000, 32000))


@broken("damaged", VOLUME, volumes)
def _(folder):
    claim(folder / VOLUME, (-1, 16, 6))


# Values and grids


@broken("dimensions", VOLUME, volumes)
def _(folder):
    write_nifti(np.zeros((14, 16, 6, 3), np.float32), folder / VOLUME)


@broken("dimensions", "imagesTr/case_1_0000.nii", lambda folder: volumes(folder, ".nii"))
def _(folder):
    """Two dimensions, which NibabelIO does not read."""
    write_nifti(np.zeros((14, 16), np.float32), folder / "imagesTr" / "case_1_0000.nii")


@broken("non-finite", VOLUME, volumes)
def _(folder):
    values = volume(0)
    values[0, 0, :2] = np.nan, np.inf
    write_nifti(values.T, folder / VOLUME)


@broken("non-finite", VOLUME_LABEL, volumes)
def _(folder):
    values = volume_label().astype(np.float32)
    values[0, 0, 0] = np.nan
    write_nifti(values.T, folder / VOLUME_LABEL)


@broken("non-finite", "imagesTr/case_1_0000.tif", lambda folder: natural_images(folder, ".tif"))
def _(folder):
    values = picture(1).astype(np.float32)
    values[0, 0, 0] = np.nan
    tifffile.imwrite(folder / "imagesTr" / "case_1_0000.tif", values, photometric="rgb")


@broken("channel-count", IMAGE)
def _(folder):
    alpha = np.full((*picture(1).shape[:2], 1), 255, np.uint8)
    save(np.dstack([picture(1), alpha]), folder / IMAGE)


@broken("channel-count", IMAGE)
def _(folder):
    save(picture(1)[..., 0], folder / IMAGE)


@broken("channel-count", IMAGE)
def _(folder):
    change_json(folder / DESCRIPTION, channel_names={"0": "grey"})


@broken("channel-count", IMAGE)
def _(folder):
    Image.fromarray(picture(1)[..., 0]).convert("LA").save(folder / IMAGE)


@broken("size", LABEL)
def _(folder):
    save(label()[:-1], folder / LABEL)


@broken("size", LABEL)
def _(folder):
    save(np.ascontiguousarray(label().T), folder / LABEL)


@broken("size", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(volume_label()[:-1], folder / VOLUME_LABEL)


@broken("size", "imagesTr/case_1_0001.nii.gz", volumes)
def _(folder):
    write_volume(volume(11)[:-1], folder / "imagesTr" / "case_1_0001.nii.gz")


@broken("geometry", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(volume_label(), folder / VOLUME_LABEL, spacing=(0.7, 0.8, 2.6))


@broken("geometry", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(volume_label(), folder / VOLUME_LABEL, origin=(-3.0, 4.0, 15.0))


@broken("geometry", VOLUME_LABEL, volumes)
def _(folder):
    flipped = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    write_volume(volume_label(), folder / VOLUME_LABEL, direction=flipped)


@broken("geometry-rounding", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(volume_label(), folder / VOLUME_LABEL, origin=(-3.0, 4.0, 5.01))


@broken("geometry", "imagesTr/case_1_0001.nii.gz", volumes)
def _(folder):
    write_volume(volume(11), folder / "imagesTr" / "case_1_0001.nii.gz", spacing=(1, 1, 1))


@broken("label-colours", LABEL)
def _(folder):
    save(np.repeat(label()[..., None], 3, axis=2), folder / LABEL)


@broken("label-colours", LABEL)
def _(folder):
    indexed = Image.fromarray(label())
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indexed.save(folder / LABEL)


@broken("label-colours", LABEL)
def _(folder):
    Image.fromarray(label()).convert("LA").save(folder / LABEL)


@broken("label-colours", "labelsTr/case_1.jpg", lambda folder: natural_images(folder, ".jpg"))
def _(folder):
    change_json(folder / DESCRIPTION, overwrite_image_reader_writer="NaturalImage2DIO")


@broken("label-16-bit", LABEL)
def _(folder):
    (folder / LABEL).write_bytes(imagecodecs.png_encode(label().astype(np.uint16)))


@broken("label-values", LABEL)
def _(folder):
    save(label() + (label() == 2).astype(np.uint8), folder / LABEL)


@broken("label-values", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(-volume_label().astype(np.int16), folder / VOLUME_LABEL)


@broken("label-values", VOLUME_LABEL, volumes)
def _(folder):
    write_volume(volume_label() * np.float32(1e12), folder / VOLUME_LABEL)


@broken("black-white-mask", LABEL)
def _(folder):
    save((label() > 0) * np.uint8(255), folder / LABEL)


@broken("fractional-label", VOLUME_LABEL, volumes)
def _(folder):
    values = volume_label().astype(np.float32)
    values[2, 4, 4] = 0.5
    write_volume(values, folder / VOLUME_LABEL)


@broken("background-only", LABEL)
def _(folder):
    save(label() * np.uint8(0), folder / LABEL)


@broken("background-only", LABEL)
def _(folder):
    """Background and the ignore label."""
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
    change_json(folder / DESCRIPTION, labels=labels)
    save((label() > 0) * np.uint8(3), folder / LABEL)


@broken("no-foreground", "labelsTr")
def _(folder):
    for case in TRAINING:
        save(label() * np.uint8(0), folder / "labelsTr" / f"{case}.png")


@broken("constant-image", IMAGE)
def _(folder):
    save(np.full_like(picture(1), 7), folder / IMAGE)


@broken("constant-image", VOLUME, volumes)
def _(folder):
    write_volume(np.zeros_like(volume(1)), folder / VOLUME)


@broken("duplicate", "imagesTr/case_3_0000.png")
def _(folder):
    shutil.copy(folder / IMAGE, folder / "imagesTr" / "case_3_0000.png")


@broken("near-duplicate", "imagesTs/test_0_0000.png")
def _(folder):
    brighter = (picture(1) * 0.9 + 20).astype(np.uint8)
    save(brighter, folder / "imagesTs" / "test_0_0000.png")
