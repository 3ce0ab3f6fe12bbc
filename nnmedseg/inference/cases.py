"""Which cases lie in a folder, and their pixels as a model wants them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK

from nnmedseg.data.images import IMAGE_ENDINGS, read_image, to_rgb
from nnmedseg.errors import DataError, NotFoundError, UserError, list_some
from nnmedseg.inference.geometry import Geometry

VOLUME_ENDINGS = (".nii.gz", ".nii")
NATURAL_SPACING = (999.0, 1.0, 1.0)  # what nnU-Net's reader of photographs reports
CHANNEL_SUFFIX = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class InputCase:
    """One case to predict.

    Attributes:
        name: File name without ending and channel number.
        files: One image, or one a channel in the order of the channels.
    """

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class LoadedCase:
    """The pixels of a case.

    Attributes:
        image: ``(C, Z, H, W)``, float32, or uint8 for pictures of 8 bits.
        properties: What nnU-Net's preprocessing needs, ``spacing`` among it.
        geometry: The grid that the mask takes over, where it does not follow from ``properties``.
        notes: What was done to bring the image to what the model was trained on.
    """

    image: npt.NDArray[Any]
    properties: dict[str, Any]
    geometry: Geometry | None = None
    notes: tuple[str, ...] = ()


def find_cases(source: str | Path, channels: int, *, pictures: bool) -> list[InputCase]:
    """Find the images in a folder (or take one image) and group them into cases.

    Args:
        source: Folder or file. Channel numbers (``_0000``) at the end of names are optional for
            models that take one file a case.
        channels: Channels of the model.
        pictures: Whether the model takes pictures, which hold all channels in one file.

    Raises:
        UserError: There is no image, two have the same name, or channels are missing.
    """
    source = Path(source)
    if not source.exists():
        raise NotFoundError(
            "there is no such image folder", where=source, mend="check the path given with -i"
        )
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    images = [path for path in files if is_image(path)]
    if not images:
        raise NotFoundError(
            "the folder holds no images",
            where=source,
            mend=f"images end in one of: {', '.join((*sorted(IMAGE_ENDINGS), *VOLUME_ENDINGS))}",
        )
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        groups[CHANNEL_SUFFIX.sub("", stem(path))].append(path)
    expected = 1 if pictures else channels
    wrong = [name for name, paths in groups.items() if len(paths) != expected]
    if wrong:
        raise UserError(
            f"{expected} file(s) a case are expected, but not found for: {list_some(wrong)}",
            where=source,
            mend="give each case a name of its own, with one file for each channel "
            "(case_0000, case_0001, ...) where the model was trained on several",
        )
    return [InputCase(name, tuple(paths)) for name, paths in groups.items()]


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image that can be predicted."""
    name = path.name.lower()
    if name.startswith(".") or not path.is_file():
        return False
    return name.endswith(VOLUME_ENDINGS) or path.suffix.lower() in IMAGE_ENDINGS


def load_natural(case: InputCase, channels: int) -> LoadedCase:
    """Load a case for a model of photographs with 1 or 3 channels.

    Grey images are repeated for three channels, colours are averaged for one; each slice of a NIfTI
    volume is an image of its own.

    Raises:
        DataError: The file cannot be read.
    """
    (path,) = case.files
    geometry = Geometry()
    if path.name.lower().endswith(VOLUME_ENDINGS):
        stored = read_nifti(path)
        geometry = Geometry.of_sitk(
            {
                "spacing": stored.GetSpacing(),
                "origin": stored.GetOrigin(),
                "direction": stored.GetDirection(),
            }
        )
        pixels = SimpleITK.GetArrayFromImage(stored).astype(np.float32)
        if stored.GetNumberOfComponentsPerPixel() == 1:
            pixels = pixels[..., None]
        slices = pixels[None] if geometry.dimensions == 2 else pixels
    else:
        slices = to_rgb(read_image(path)).astype(np.float32)[None]
    image = _with_channels(np.moveaxis(slices, -1, 0), channels, path)
    return LoadedCase(np.ascontiguousarray(image), {"spacing": NATURAL_SPACING}, geometry)


def load_with_reader(case: InputCase, reader: Any) -> LoadedCase:
    """Load a case with the reader that nnU-Net used in training.

    Raises:
        DataError: A file cannot be read.
    """
    for path in case.files:
        if path.name.lower().endswith(VOLUME_ENDINGS):
            read_nifti(path)
    try:
        image, properties = reader.read_images([str(path) for path in case.files])
    except Exception as error:
        raise DataError(f"the image cannot be read: {error}", where=case.files[0]) from error
    return LoadedCase(image, properties, None)


def read_nifti(path: Path) -> SimpleITK.Image:
    """Read a NIfTI file, truncated ones refused (SimpleITK fills them with zeros).

    Raises:
        DataError: It cannot be read.
    """
    try:
        np.asanyarray(nibabel.nifti1.load(path).dataobj)
        return SimpleITK.ReadImage(str(path))
    except Exception as error:
        raise DataError(
            f"the NIfTI file is damaged: {error}", where=path, mend="copy or export it again"
        ) from error


def _with_channels(
    image: npt.NDArray[np.float32], channels: int, path: Path
) -> npt.NDArray[np.float32]:
    if image.shape[0] == channels:
        return image
    if image.shape[0] == 1:
        return np.repeat(image, channels, axis=0)
    if channels == 1:
        return image[:3].mean(axis=0, keepdims=True)
    raise DataError(
        f"the image has {image.shape[0]} channels, the model takes {channels}", where=path
    )


def stem(path: Path) -> str:
    """Return the name of an image without its ending."""
    lowered = path.name.lower()
    ending = next((end for end in VOLUME_ENDINGS if lowered.endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(ending)]
