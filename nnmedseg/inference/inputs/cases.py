"""Which cases there are to predict: in folders, in lists of files, and in DICOM series."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data import IMAGE_ENDINGS, VOLUME_ENDINGS
from nnmedseg.data.dicom_series import DicomSeries, group_by_series, is_dicom
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.inputs.geometry import Geometry

CHANNEL_SUFFIX = re.compile(r"_(\d{4})$")
SHORTEST_DICOM = 132
"""Bytes after which a DICOM file says that it is one."""
LIST_ENDINGS = (".txt", ".json")

Source = str | Path


@dataclass(frozen=True)
class InputCase:
    """One case to predict.

    Attributes:
        name: File name without ending and channel number, or name of the folder of a DICOM series.
        files: All files of it: one image, or one a channel in the order of the channels; of DICOM
            all slices.
        series: Of DICOM the slices of each channel, otherwise empty.
    """

    name: str
    files: tuple[Path, ...]
    series: tuple[tuple[Path, ...], ...] = ()


@dataclass(frozen=True)
class LoadedCase:
    """The pixels of a case.

    Attributes:
        image: ``(C, Z, H, W)``, float32, or uint8 for pictures of 8 bits; maybe not writeable.
        properties: What nnU-Net's preprocessing needs, ``spacing`` among it.
        geometry: The grid that the mask takes over, where it does not follow from ``properties``.
        notes: What was done to bring the image to what the model was trained on.
    """

    image: npt.NDArray[Any]
    properties: dict[str, Any]
    geometry: Geometry | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def on_grid(
        cls, image: npt.NDArray[Any], geometry: Geometry, notes: tuple[str, ...] = ()
    ) -> LoadedCase:
        """Return an image ``(C, Z, H, W)`` that is in the order of axes of its file.

        Args:
            image: The pixels.
            geometry: The grid of the file.
            notes: See above.
        """
        return cls(image, {"spacing": geometry.spacing[::-1]}, geometry, notes)

    def without_pixels(self) -> LoadedCase:
        """Return the case with an empty image, for writing what needs none."""
        return replace(self, image=np.empty((0, *self.image.shape[1:]), self.image.dtype))


@dataclass(frozen=True)
class _Channel:
    """An image file or a DICOM series.

    Attributes:
        name: Of the case that it belongs to.
        number: Of the channel; 0 where the name has none.
        folder: Where it lies: channels of a case lie together.
        files: One file, or all slices.
        is_series: Whether it is a DICOM series.
    """

    name: str
    number: int
    folder: Path
    files: tuple[Path, ...]
    is_series: bool = False

    @classmethod
    def of(cls, full_name: str, files: tuple[Path, ...], *, is_series: bool = False) -> _Channel:
        number = CHANNEL_SUFFIX.search(full_name)
        return cls(
            CHANNEL_SUFFIX.sub("", full_name),
            int(number[1]) if number else 0,
            files[0].parent.parent if is_series else files[0].parent,
            files,
            is_series,
        )


def find_cases(
    source: Source | Sequence[Source], channels: int, *, pictures: bool
) -> list[InputCase]:
    """Find images and group them into cases.

    Args:
        source: One or several of: a folder of images; a folder of DICOM slices, or of folders of
            such; an image; a list of images, which is a ``.txt`` file with one path a line, or a
            ``.json`` file with a list of paths or of lists with the files of each channel. Paths
            in lists are relative to the folder of the list. Channel numbers (``_0000``) at the end
            of names are optional for models that take one file a case.
        channels: Channels of the model.
        pictures: Whether the model takes pictures, which hold all channels in one file.

    Raises:
        NotFoundError: A source is not there, or there is no image.
        UserError: Two cases have the same name.
        DataError: A list is damaged.
    """
    sources = [Path(source)] if isinstance(source, Source) else [Path(one) for one in source]
    cases: list[InputCase] = []
    for one in sources:
        cases += _cases_of(one, grouped=channels > 1 and not pictures)
    if not cases:
        raise NotFoundError(
            "the folder holds no images",
            where=", ".join(map(str, sources)),
            mend=f"images end in one of: {', '.join((*IMAGE_ENDINGS, *VOLUME_ENDINGS))}; or are "
            "slices of DICOM series",
        )
    _refuse_equal_names(cases)
    return cases


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image that can be predicted."""
    name = path.name.lower()
    if name.startswith(".") or not path.is_file():
        return False
    return name.endswith((*IMAGE_ENDINGS, *VOLUME_ENDINGS))


def stem(path: Path) -> str:
    """Return the name of an image without its ending."""
    lowered = path.name.lower()
    ending = next(
        (end for end in (".nii.gz", *VOLUME_ENDINGS) if lowered.endswith(end)), path.suffix
    )
    return path.name[: len(path.name) - len(ending)]


def _cases_of(source: Path, *, grouped: bool) -> list[InputCase]:
    if source.is_dir():
        return _group(_in_folder(source, source), grouped=grouped)
    if not source.exists():
        raise NotFoundError(
            "there is no such image folder", where=source, mend="check the path given with -i"
        )
    if source.suffix.lower() in LIST_ENDINGS:
        return _in_list(source, grouped=grouped)
    return _group([_channel_of(source)], grouped=grouped)


def _channel_of(path: Path) -> _Channel:
    """Return a single file, which is a series of one slice if it is DICOM."""
    dicom = not is_image(path) and is_dicom(path)
    return _Channel.of(stem(path), (path,), is_series=dicom)


def _in_folder(folder: Path, root: Path) -> Iterator[_Channel]:
    """Yield the images of a folder, and the DICOM series in it and in the folders below."""
    try:
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", where=folder) from error
    if folder == root:
        yield from (_Channel.of(stem(path), (path,)) for path in entries if is_image(path))
    files = [path for path in entries if path.is_file() and not is_image(path)]
    for series, name in _named(group_by_series(_dicom_files(files)), root):
        yield _Channel.of(name, series.files, is_series=True)
    for path in entries:
        if path.is_dir() and not path.is_symlink():
            yield from _in_folder(path, root)


def _dicom_files(files: Sequence[Path]) -> list[Path]:
    """Return the DICOM files of a folder, and those that are too short to tell what they are.

    The latter are damaged slices if they end like the others.
    """
    slices = [path for path in files if is_dicom(path)]
    endings = {path.suffix for path in slices}
    damaged = [
        path
        for path in set(files).difference(slices)
        if path.suffix in endings and path.stat().st_size < SHORTEST_DICOM
    ]
    return sorted([*slices, *damaged])


def _named(found: Sequence[DicomSeries], root: Path) -> Iterator[tuple[DicomSeries, str]]:
    """Give each series of a folder a name: the folder's and, of several, their numbers."""
    numbers = {series.number for series in found}
    for series in found:
        folder = series.files[0].parent
        name = "_".join(folder.relative_to(root).parts) or folder.resolve().name
        if len(found) > 1 and not series.uid:
            name += f"_{stem(series.files[0])}"
        elif len(found) > 1:
            distinct = len(numbers) == len(found) and series.number is not None
            name += f"_series{series.number}" if distinct else f"_{series.uid}"
        yield series, name


def _in_list(source: Path, *, grouped: bool) -> list[InputCase]:
    """Return the cases of a list; files that are not there are left for reading to report."""
    cases: list[InputCase] = []
    alone: list[_Channel] = []
    for entry in _entries_of(source):
        if isinstance(entry, str):
            path = source.parent / entry
            alone += _in_folder(path, path) if path.is_dir() else [_channel_of(path)]
        else:
            files = [_channel_of(source.parent / one) for one in entry]
            cases.append(_case(files))
    return [*cases, *_group(alone, grouped=grouped)]


def _entries_of(source: Path) -> list[str | list[str]]:
    try:
        text = source.read_text("utf-8-sig")
        if source.suffix.lower() == ".txt":
            return [line.strip() for line in text.splitlines() if line.strip()]
        entries = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"the list cannot be read: {error}", where=source) from error
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise DataError(
            "this is no list of images",
            where=source,
            mend='write ["a.png", "b.png"], or [["c_0000.nii.gz", "c_0001.nii.gz"]] for channels',
        )
    return entries


def _is_entry(entry: object) -> bool:
    if isinstance(entry, list):
        return bool(entry) and all(isinstance(one, str) for one in entry)
    return isinstance(entry, str)


def _group(found: Iterator[_Channel] | Sequence[_Channel], *, grouped: bool) -> list[InputCase]:
    """Return a case for each channel or, if ``grouped``, for those of one name in one folder."""
    if not grouped:
        return [_case([channel]) for channel in found]
    groups: dict[tuple[Path, str], list[_Channel]] = defaultdict(list)
    for channel in found:
        groups[channel.folder, channel.name].append(channel)
    for channels in groups.values():
        by_number: dict[int, _Channel] = {}
        for channel in channels:
            other = by_number.setdefault(channel.number, channel)
            if other is not channel:
                raise _equal_names(channel.name, other.files[0], channel.files[0])
    return [_case(sorted(each, key=lambda one: one.number)) for each in groups.values()]


def _case(channels: Sequence[_Channel]) -> InputCase:
    files = tuple(path for channel in channels for path in channel.files)
    is_series = any(channel.is_series for channel in channels)
    series = tuple(channel.files for channel in channels) if is_series else ()
    return InputCase(channels[0].name, files, series)


def _refuse_equal_names(cases: Sequence[InputCase]) -> None:
    seen: dict[str, InputCase] = {}
    for case in cases:
        other = seen.setdefault(case.name, case)
        if other is not case:
            raise _equal_names(case.name, other.files[0], case.files[0])


def _equal_names(name: str, one: Path, other: Path) -> UserError:
    return UserError(
        f"two images are called {name!r}, and would have the same mask: {one} and {other}",
        where=one.parent,
        mend="rename one of them, or predict them into folders of their own",
    )
