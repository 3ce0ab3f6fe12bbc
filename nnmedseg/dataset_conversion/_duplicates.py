"""Duplicates among the converted cases, and what they mean for the split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnmedseg.data.duplicates import Duplicates, Entry, Signature, find_duplicates, groups_of
from nnmedseg.data.images import read_image
from nnmedseg.data.splits import joined_with
from nnmedseg.dataset_conversion._case_files import IMAGES_FOLDER, Record
from nnmedseg.dataset_conversion.base import DatasetConverter


def duplicates_among(
    records: Sequence[Record], folder: Path, converter: DatasetConverter, num_workers: int
) -> list[Duplicates]:
    """Find images that are there twice, exactly or nearly."""
    entries = [
        Entry(
            record["id"],
            Signature.from_dict(record["signature"]),
            _loader(folder / IMAGES_FOLDER[record["part"]], record["id"], converter),
        )
        for record in records
    ]
    return find_duplicates(entries, num_workers=num_workers)


def leaking_cases(records: Sequence[Record], pairs: Sequence[Duplicates]) -> list[str]:
    """Return the ids of training and validation cases whose image is also a test image."""
    test = {record["id"] for record in records if record["part"] == "test"}
    return sorted(joined_with(test, groups_of(pairs)) - test)


def describe(records: Sequence[Record], pairs: Sequence[Duplicates]) -> list[dict[str, Any]]:
    """Return the pairs with their files and parts, for ``conversion.json``."""
    by_id = {record["id"]: record for record in records}
    return [
        {
            "kind": pair.kind,
            "cases": [pair.first, pair.second],
            "parts": [by_id[case]["part"] for case in (pair.first, pair.second)],
            "files": [by_id[case]["images"][0]["file"] for case in (pair.first, pair.second)],
        }
        for pair in pairs
    ]


def _loader(folder: Path, case: str, converter: DatasetConverter) -> Callable[[], np.ndarray]:
    path = folder / f"{case}_0000{converter.file_ending}"
    if converter.content == "volume":
        from nnmedseg.data.volumes import read_volume  # noqa: PLC0415 - see ``_writing``

        return lambda: read_volume(path).values
    return lambda: read_image(path)
