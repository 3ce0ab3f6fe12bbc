"""Writing a case that is a volume: its channels and its mask as compressed NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnmedseg.data.duplicates import signature
from nnmedseg.data.slices import read_array
from nnmedseg.data.volumes import (
    Volume,
    decode_volume,
    geometry_difference,
    non_finite_count,
    read_label_values,
    volume_ending,
    write_nifti,
)
from nnmedseg.dataset_conversion._case_files import Record, SourceFile, Targets, take_over
from nnmedseg.dataset_conversion._write_images import describe_labels
from nnmedseg.dataset_conversion.base import DatasetConverter
from nnmedseg.errors import DataError, list_some

UNKNOWN_SPACING = (1.0, 1.0, 1.0)
"""Written where neither the files nor the user tell the spacing (mm; z, y, x)."""


def write_volume_case(
    converter: DatasetConverter,
    images: Sequence[SourceFile],
    masks: Sequence[SourceFile],
    to: Targets,
) -> tuple[Record, list[str]]:
    """Write each channel of a volume as NIfTI, and its mask as NIfTI of uint8 labels.

    Returns:
        What the record says beyond the files, and all problems; with problems nothing is written.
    """
    problems: list[str] = []
    channels = _read(images, "image", converter, problems)
    labels = _read(masks, "label", converter, problems)
    if channels and len(channels) != len(to.images):
        problems.append(
            f"{images[0].name}: {len(channels)} channels, {len(to.images)} are expected: "
            f"{list_some(list(converter.channel_names.values()))}"
        )
    if len(labels) > 1:
        problems.append(f"{masks[0].name}: a mask has one channel, this has {len(labels)}")
    if not problems:
        problems += _grid_differences(images, masks, channels, labels)
        problems += _non_finite(images, channels)
    mask = _to_labels(labels[0], masks[0], converter, problems) if labels else None
    if problems or not channels:
        return {}, problems
    first = channels[0]
    record: Record = {
        "image_size": list(first.values.shape),
        "spacing": list(first.spacing),
        "signature": signature(first.values).to_dict(),
    }
    if mask is not None and to.mask is not None:
        record |= describe_labels(mask.values)
        _write(mask, masks, to.mask, as_stored=mask.values is labels[0].values)
    for channel, target in zip(channels, to.images, strict=True):
        _write(channel, images, target, as_stored=len(channels) == 1)
    return record, []


def _read(
    sources: Sequence[SourceFile], key: str, converter: DatasetConverter, problems: list[str]
) -> list[Volume]:
    """Return the channels of all files, or of arrays the one volume that they make up."""
    channels: list[Volume] = []
    arrays: list[np.ndarray] = []
    for source in sources:
        try:
            if volume_ending(source.path):
                channels += decode_volume(source.content, source.path)
            else:
                arrays.append(read_array(source.content, key, source.path))
        except DataError as error:
            problems.append(f"{source.name}: {error.what}")
    if not arrays or problems:
        return channels
    stacked = _stack(arrays, sources, converter, problems)
    return channels if stacked is None else [*channels, stacked]


def _stack(
    arrays: Sequence[np.ndarray],
    sources: Sequence[SourceFile],
    converter: DatasetConverter,
    problems: list[str],
) -> Volume | None:
    dimensions = 2 if converter.slices_are_files and len(arrays) > 1 else (2, 3)
    for array, source in zip(arrays, sources, strict=True):
        if array.ndim not in np.atleast_1d(dimensions):
            problems.append(f"{source.name}: an array of shape {array.shape} is no slice or volume")
        elif array.shape != arrays[0].shape:
            problems.append(
                f"{source.name} is {array.shape} but {sources[0].name} is {arrays[0].shape} "
                "(height, width)"
            )
    if problems:
        return None
    values = arrays[0] if arrays[0].ndim == 3 else np.stack(arrays)
    return Volume(values, converter.options.spacing or UNKNOWN_SPACING)


def _grid_differences(
    images: Sequence[SourceFile],
    masks: Sequence[SourceFile],
    channels: Sequence[Volume],
    labels: Sequence[Volume],
) -> list[str]:
    names = [images[min(n, len(images) - 1)].name for n in range(len(channels))]
    if labels:
        names.append(masks[0].name)
    others = zip(names[1:], [*channels, *labels][1:], strict=True)
    found = ((name, geometry_difference(channels[0], other)) for name, other in others)
    return [f"{names[0]} and {name}: {what}" for name, what in found if what]


def _non_finite(images: Sequence[SourceFile], channels: Sequence[Volume]) -> list[str]:
    counts = [non_finite_count(channel.values) for channel in channels]
    if not any(counts):
        return []
    return [f"{images[0].name}: {sum(counts)} voxels are NaN or infinite"]


def _to_labels(
    volume: Volume, source: SourceFile, converter: DatasetConverter, problems: list[str]
) -> Volume | None:
    """Return labels in place of the values of a mask; the same array where nothing changes."""
    try:
        values = read_label_values(volume.values, source.path)
        labels = _mapped(values, converter.label_values, source.path)
    except DataError as error:
        problems.append(f"{source.name}: {error.what}")
        return None
    unchanged = volume.values.dtype == np.uint8 and np.array_equal(labels, volume.values)
    return replace(volume, values=volume.values if unchanged else labels)


def _mapped(values: np.ndarray, labels: Mapping[int, int] | None, path: Path) -> np.ndarray:
    if labels is None:
        return (values != 0).astype(np.uint8)
    present = np.unique(values)
    unknown = [int(value) for value in present if int(value) not in labels]
    if unknown:
        raise DataError(
            f"values that are no label: {list_some(unknown)} (labels: {list_some(sorted(labels))})",
            where=path,
        )
    new = np.array([labels[int(value)] for value in present], np.uint8)
    return new[np.searchsorted(present, values)]


def _write(volume: Volume, sources: Sequence[SourceFile], target: Path, *, as_stored: bool) -> None:
    """Write a volume, or take over its file when that is what would be written."""
    if as_stored and len(sources) == 1 and sources[0].content.startswith(b"\x1f\x8b"):
        take_over(sources[0], target)
    else:
        write_nifti(volume, target)
