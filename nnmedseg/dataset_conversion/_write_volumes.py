"""Writing a case that is a volume: its channels and its mask as compressed NIfTI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nnmedseg.data.duplicates import signature
from nnmedseg.data.simple_itk import read_header
from nnmedseg.data.slices import read_array
from nnmedseg.data.volumes import (
    ROUNDING,
    Volume,
    decode_volume,
    displacement,
    geometry_difference,
    non_finite_count,
    read_label_values,
    volume_ending,
    write_nifti,
)
from nnmedseg.dataset_conversion._case_files import Record, SourceFile, Targets, take_over
from nnmedseg.dataset_conversion._label_counts import count_labels, describe_labels
from nnmedseg.dataset_conversion.base import DatasetConverter
from nnmedseg.errors import DataError, list_some

UNKNOWN_SPACING = (1.0, 1.0, 1.0)
"""Written where neither the files nor the user tell the spacing (mm; z, y, x)."""

Check = Callable[[np.ndarray, Path], np.ndarray]
"""Returns the values of a file as they are written, or raises DataError."""


@dataclass
class _Read:
    """What the files of an image or a mask hold.

    Attributes:
        volumes: One for each channel.
        names: The file of each.
        unchanged: Whether each volume holds the numbers of its file.
        problems: What is wrong with the files, one sentence each.
    """

    volumes: list[Volume] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unchanged: bool = True
    problems: list[str] = field(default_factory=list)


def write_volume_case(
    converter: DatasetConverter,
    images: Sequence[SourceFile],
    masks: Sequence[SourceFile],
    to: Targets,
) -> tuple[Record, list[str]]:
    """Write each channel of a volume as NIfTI, and its mask as NIfTI of whole-number labels.

    Returns:
        What the record says beyond the files, and all problems; with problems nothing is written.
    """
    channels = _read(images, "image", _finite, converter)
    labels = _read(masks, "label", lambda values, path: _labels(values, path, converter), converter)
    problems = [*channels.problems, *labels.problems]
    if not problems:
        first = channels.volumes[0]
        _unite_grids(first, channels)
        _unite_grids(first, labels)
        problems = _misfits(channels, labels, converter)
    if problems:
        return {}, problems
    record: Record = {
        "image_size": list(first.values.shape),
        "spacing": list(first.spacing),
        "value_range": [
            float(min(volume.values.min() for volume in channels.volumes)),
            float(max(volume.values.max() for volume in channels.volumes)),
        ],
        "signature": signature(first.values).to_dict(),
    }
    if labels.volumes and to.mask is not None:
        record |= describe_labels(labels.volumes[0].values)
        _write(labels, masks, (to.mask,))
    _write(channels, images, to.images)
    return record, []


def _read(
    sources: Sequence[SourceFile], key: str, check: Check, converter: DatasetConverter
) -> _Read:
    """Read files of volumes, or of arrays under ``key``: one volume, or the slices of one."""
    read = _Read()
    slices: list[np.ndarray] = []
    for source in sources:
        try:
            if not volume_ending(source.path):
                slices.append(check(read_array(source.content, key, source.path), source.path))
                continue
            for volume in decode_volume(source.content, source.path):
                values = check(volume.values, source.path)
                read.unchanged &= volume.values.dtype.kind in "iuf" and np.array_equal(
                    values, volume.values
                )
                read.volumes.append(replace(volume, values=values))
                read.names.append(source.name)
        except DataError as error:
            read.problems.append(f"{source.name}: {error.what}")
    if slices and not read.problems:
        read.problems += _misshapen(slices, sources, converter)
    if slices and not read.problems:
        values = slices[0] if slices[0].ndim == 3 else np.stack(slices)
        read.volumes.append(Volume(values, converter.options.spacing or UNKNOWN_SPACING))
        read.names.append(sources[0].name)
    return read


def _misshapen(
    arrays: Sequence[np.ndarray], sources: Sequence[SourceFile], converter: DatasetConverter
) -> list[str]:
    problems = []
    dimensions = (2,) if converter.slices_are_files and len(arrays) > 1 else (2, 3)
    for array, source in zip(arrays, sources, strict=True):
        if array.ndim not in dimensions:
            problems.append(f"{source.name}: an array of shape {array.shape} is no slice or volume")
        elif array.shape != arrays[0].shape:
            problems.append(
                f"{source.name} is {array.shape} but {sources[0].name} is {arrays[0].shape} "
                "(height, width)"
            )
    return problems


def _unite_grids(first: Volume, read: _Read) -> None:
    """Put volumes on the grid of the first one where only rounding in their headers differs."""
    for number, volume in enumerate(read.volumes):
        if (
            volume.values.shape == first.values.shape
            and geometry_difference(first, volume)
            and displacement(first, volume) <= ROUNDING
        ):
            read.volumes[number] = replace(first, values=volume.values)
            read.unchanged = False


def _misfits(channels: _Read, labels: _Read, converter: DatasetConverter) -> list[str]:
    """Say what does not fit together: numbers of channels, and the grids of all volumes."""
    expected = len(converter.channel_names)
    problems = []
    if len(channels.volumes) != expected:
        problems.append(
            f"{channels.names[0]}: {len(channels.volumes)} channel(s), {expected} expected: "
            f"{list_some(list(converter.channel_names.values()))}"
        )
    if len(labels.volumes) > 1:
        problems.append(
            f"{labels.names[0]}: a mask has one channel, this has {len(labels.volumes)}"
        )
    others = zip(
        [*channels.names[1:], *labels.names], [*channels.volumes[1:], *labels.volumes], strict=True
    )
    for name, other in others:
        difference = geometry_difference(channels.volumes[0], other)
        if difference:
            problems.append(f"{channels.names[0]} and {name}: {difference}")
    return problems


def _finite(values: np.ndarray, path: Path) -> np.ndarray:
    count = non_finite_count(values)
    if count:
        raise DataError(f"{count:,} of {values.size:,} values are NaN or infinite", where=path)
    return values


def _labels(values: np.ndarray, path: Path, converter: DatasetConverter) -> np.ndarray:
    """Return the labels that the values of a mask stand for, uint8."""
    stored = read_label_values(values, path)
    if converter.label_values is None:
        return (stored != 0).astype(np.uint8)
    known = converter.label_values
    present = [int(value) for value in np.flatnonzero(count_labels(stored))]
    unknown = [value for value in present if value not in known]
    if unknown:
        what = f"values that are no label: {list_some(unknown)} (labels: {list_some(sorted(known))}"
        can_name = "labels" in converter.understands
        hint = "; --labels can name them, *=background all others)" if can_name else ")"
        raise DataError(what + hint, where=path)
    table = np.zeros(present[-1] + 1, np.uint8)
    table[present] = [known[value] for value in present]
    return table[stored]


def _write(read: _Read, sources: Sequence[SourceFile], targets: Sequence[Path]) -> None:
    """Write volumes, or take over the files of those that nnU-Net reads as they are."""
    as_stored = read.unchanged and len(sources) == len(targets)
    for number, (volume, target) in enumerate(zip(read.volumes, targets, strict=True)):
        if as_stored and _is_plain_nifti(sources[number]):
            take_over(sources[number], target)
        else:
            write_nifti(volume, target)


def _is_plain_nifti(source: SourceFile) -> bool:
    """Return whether a file is compressed NIfTI that SimpleITK reads as one volume of numbers."""
    if not source.path.name.lower().endswith(".nii.gz"):
        return False
    header = read_header(source.path, "NiftiImageIO")
    return len(header.size) == 3 and header.components == 1
