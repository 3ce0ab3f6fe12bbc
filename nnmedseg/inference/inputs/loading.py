"""The pixels of a case as a model was trained on them, whatever file they come from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnmedseg.data.dicom_series import read_series
from nnmedseg.data.images import Picture, read_picture, to_8_bits
from nnmedseg.data.simple_itk import read_header
from nnmedseg.data.volumes import (
    Volume,
    geometry_difference,
    non_finite_count,
    read_channels,
    volume_ending,
    write_nifti,
)
from nnmedseg.errors import DataError
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.geometry import Geometry
from nnmedseg.nnunet._volume_files import read_images
from nnmedseg.nnunet.one_at_a_time import OneAtATime
from nnmedseg.nnunet.photographs import read_photograph

NATURAL_SPACING = (999.0, 1.0, 1.0)  # what nnU-Net's reader of photographs reports
NIFTI_ENDINGS = (".nii", ".nii.gz")
LARGEST_PICTURE = 2**30
"""Pixels of the largest picture that is predicted, 32,768 x 32,768: 3 GiB as RGB."""

ALPHA_DROPPED = "alpha was dropped"
SIXTEEN_BITS = "16 bits were brought to 8"
ONE_BIT = "1 bit was brought to 8: black is 0 and white is 255"
PALETTE = "the palette was replaced by its colours"
GREY_REPEATED = "grey was repeated for {} channels"
COLOURS_AVERAGED = "colours were averaged for 1 channel"

Pixels = npt.NDArray[Any]


def load_natural(case: InputCase, channels: int) -> LoadedCase:
    """Load a case for a model of pictures of 8 bits with 1 or 3 channels.

    Grey images are repeated for three channels, colours are averaged for one; each slice of a
    volume is an image of its own.

    Raises:
        DataError: The file cannot be read.
    """
    if _is_volume(case):
        return _load_slices(case, channels)
    (path,) = case.files
    picture = read_picture(path, LARGEST_PICTURE)
    notes = _notes_of(picture)
    pixels = to_8_bits(picture.pixels)
    planes = np.moveaxis(pixels if pixels.ndim == 3 else pixels[..., None], -1, 0)
    del picture, pixels
    image, notes = with_channels(np.ascontiguousarray(planes[:, None]), channels, path, notes)
    return LoadedCase(image, {"spacing": NATURAL_SPACING}, Geometry(), notes)


def load_with_reader(case: InputCase, reader: BaseReaderWriter, channels: int) -> LoadedCase:
    """Load a case with the reader that nnU-Net used in training.

    Formats that it does not read are brought to it on the same grid in space.

    Raises:
        DataError: A file cannot be read, or the case has another number of channels.
    """
    try:
        if isinstance(reader, NaturalImage2DIO):
            loaded = _load_photograph(case, channels)
        elif _is_volume(case) and not _reads_itself(case, reader):
            loaded = _load_volumes(_volumes_of(case), reader)
        else:
            loaded = LoadedCase(*read_images(reader, [str(path) for path in case.files]))
    except DataError:
        raise
    except Exception as error:  # readers raise errors of many kinds for damaged files
        if _is_volume(case) and not case.series:
            _refuse_damaged(case)  # says what is wrong with the file, if that is the reason
        raise DataError(
            f"the image cannot be read: {error}",
            where=case.files[0],
            mend="copy or export it again",
        ) from error
    if len(loaded.image) != channels:
        raise _other_channels(len(loaded.image), channels, case.files[0])
    _refuse_non_finite(loaded.image, case.files[0])
    return loaded


def _notes_of(picture: Picture) -> tuple[str, ...]:
    notes = {
        ALPHA_DROPPED: picture.had_alpha,
        PALETTE: picture.had_palette,
        SIXTEEN_BITS: picture.pixels.dtype == np.uint16,
        ONE_BIT: picture.bits == 1,
    }
    return tuple(note for note, applies in notes.items() if applies)


def with_channels(
    image: Pixels, channels: int, where: str | Path, notes: tuple[str, ...] = ()
) -> tuple[Pixels, tuple[str, ...]]:
    """Bring an image to the channels of a model.

    Args:
        image: ``(C, Z, H, W)``.
        channels: Of the model.
        where: Where the image is from, for messages.
        notes: What was done to it before.

    Returns:
        The image, and what was done.

    Raises:
        DataError: It has other channels, and no rule brings it to these.
    """
    given = len(image)
    if given == channels:
        return image, notes
    if given == 1:
        repeated = np.broadcast_to(image, (channels, *image.shape[1:]))
        return repeated, (*notes, GREY_REPEATED.format(channels))
    if given in (2, 4) and given == channels + 1:
        return image[:channels], (*notes, ALPHA_DROPPED)
    if channels == 1 and given in (3, 4):
        return _averaged(image[:3]), (*notes, COLOURS_AVERAGED)
    raise _other_channels(given, channels, where)


def _averaged(image: Pixels) -> Pixels:
    if image.dtype != np.uint8:
        return image.mean(axis=0, keepdims=True)
    # A sum of three divided by three is never halfway between two numbers.
    return ((image.sum(axis=0, keepdims=True, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def _load_photograph(case: InputCase, channels: int) -> LoadedCase:
    """Load pictures of more than 8 bits or of any number of channels, as nnU-Net reads them."""
    if _is_volume(case):
        return _load_slices(case, channels)
    pixels = read_photograph(case.files)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[:, None], np.float32)
    image, notes = with_channels(planes, channels, case.files[0], ())
    return LoadedCase(image, {"spacing": NATURAL_SPACING}, Geometry(), notes)


def _load_slices(case: InputCase, channels: int) -> LoadedCase:
    """Load a volume of which each slice is an image of its own."""
    volumes = _volumes_of(case)
    stacked = np.stack([volume.values for volume in volumes]).astype(np.float32)
    _refuse_non_finite(stacked, case.files[0])
    image, notes = with_channels(stacked, channels, case.files[0], ())
    geometry = Geometry.of_volume(volumes[0])
    if _is_flat(case):
        geometry = geometry.without_third_axis()
    return LoadedCase(image, {"spacing": NATURAL_SPACING}, geometry, notes)


def _is_volume(case: InputCase) -> bool:
    return bool(case.series) or all(volume_ending(path) for path in case.files)


def _reads_itself(case: InputCase, reader: BaseReaderWriter) -> bool:
    """Tell whether volumes can be left to nnU-Net's reader.

    Raises:
        DataError: They could, but a file is damaged, which SimpleITK would not see.
    """
    if case.series or isinstance(reader, Tiff3DIO):
        return False
    if all(path.name.lower().endswith(NIFTI_ENDINGS) for path in case.files):
        return True
    if not (isinstance(reader, SimpleITKIO) and _is_flat(case)):
        return False
    _refuse_damaged(case)
    return True


def _refuse_damaged(case: InputCase) -> None:
    for path in case.files:
        read_channels(path)


def _is_flat(case: InputCase) -> bool:
    """Tell whether a file holds two dimensions, not a volume of one slice."""
    return not case.series and len(read_header(case.files[0]).size) == 2


def _volumes_of(case: InputCase) -> list[Volume]:
    """Read the channels of a case, all on one grid.

    Raises:
        DataError: A file is damaged, or their grids differ.
    """
    if case.series:
        volumes = [read_series(files) for files in case.series]
    else:
        volumes = [volume for path in case.files for volume in read_channels(path)]
    for volume in volumes[1:]:
        difference = geometry_difference(volumes[0], volume)
        if difference is not None:
            raise DataError(
                f"the channels lie on different grids: {difference}",
                where=case.files[0],
                mend="resample them onto one grid",
            )
    return volumes


def _load_volumes(volumes: Sequence[Volume], reader: BaseReaderWriter) -> LoadedCase:
    """Return volumes as a reader would, on the same grid."""
    if type(reader) in (SimpleITKIO, Tiff3DIO):
        return _as_simpleitk_reads(volumes)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{number}.nii.gz") for number in range(len(volumes))]
        for volume, file in zip(volumes, files, strict=True):
            write_nifti(volume, file)
        return LoadedCase(*OneAtATime(reader).read_images(files))


def _as_simpleitk_reads(volumes: Sequence[Volume]) -> LoadedCase:
    first = volumes[0]
    image = np.empty((len(volumes), *first.values.shape), np.float32)
    for volume, channel in zip(volumes, image, strict=True):
        channel[...] = volume.values
    grid = {
        "spacing": first.spacing[::-1],
        "origin": first.origin,
        "direction": first.direction,
    }
    return LoadedCase(image, {"sitk_stuff": grid, "spacing": list(first.spacing)})


def _refuse_non_finite(image: Pixels, path: Path) -> None:
    count = sum(non_finite_count(channel) for channel in image)
    if count:
        raise DataError(
            f"the image holds {count:,} values that are not numbers, or infinite ones",
            where=path,
            mend="replace them, for instance by the value of air, or export the image again",
        )


def _other_channels(given: int, channels: int, where: str | Path) -> DataError:
    return DataError(
        f"the image has {given} channel(s), the model takes {channels}",
        where=where,
        mend="give one file for each channel: case_0000, case_0001, ...",
    )
