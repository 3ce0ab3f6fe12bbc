"""What describes a converted data set: dataset.json, splits_final.json and conversion.json."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from nnmedseg.data import splits
from nnmedseg.dataset_conversion._case_files import Record
from nnmedseg.dataset_conversion.base import DatasetConverter
from nnmedseg.files import write_json

logger = logging.getLogger(__name__)


def program_version() -> str:
    """Return the version of nnmedseg, or ``unknown`` when it runs without being installed."""
    try:
        return metadata.version("nnmedseg")
    except metadata.PackageNotFoundError:
        return "unknown"


def write_descriptions(
    folder: Path,
    name: str,
    converter: DatasetConverter,
    records: Sequence[Record],
    *,
    source: Path,
    skipped: Mapping[str, str],
) -> None:
    """Write all three files; no path of the user's machine is in any of them.

    Args:
        folder: The data set's folder, under whatever name it is built.
        name: The final name of that folder.
        converter: What the data set is.
        records: What was written, one record a case.
        source: The download folder.
        skipped: Files that were left out, relative to ``source``, with the reason.
    """
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    counts.update(Counter(record["part"] for record in records))
    split = _make_splits(records)
    write_json(split, folder / "splits_final.json")
    write_json(_dataset_json(converter, counts), folder / "dataset.json")
    conversion = {
        "dataset": converter.name,
        "folder": name,
        "source": source.name,
        "converted_on": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "nnmedseg_version": program_version(),
        "counts": counts,
        "split_sha256": splits.split_hash(split),
        "cases": list(records),
        "skipped": [{"file": file, "reason": reason} for file, reason in skipped.items()],
    }
    write_json(conversion, folder / "conversion.json")


def _make_splits(records: Sequence[Record]) -> list[splits.Split]:
    train = [record["id"] for record in records if record["part"] == "train"]
    validation = [record["id"] for record in records if record["part"] == "validation"]
    groups = {record["id"]: record["group"] for record in records if record["group"] is not None}
    folds = splits.cross_validation(train, groups)
    if len(folds) < splits.FOLDS:
        logger.warning(
            "Only %d folds: five need at least five training cases (or groups), here are %d cases",
            len(folds),
            len(train),
        )
    if not validation:
        return folds
    if len(folds) < splits.FOLDS:
        logger.warning("The official validation part is no fold of its own for the same reason")
        return folds
    return splits.with_official_split(folds, train, validation)


def _dataset_json(converter: DatasetConverter, counts: Mapping[str, int]) -> dict[str, object]:
    return {
        "channel_names": dict(converter.channel_names),
        "labels": dict(converter.labels),
        "numTraining": counts["train"] + counts["validation"],
        "file_ending": converter.file_ending,
        "overwrite_image_reader_writer": converter.reader,
        "name": converter.name,
        "description": converter.title,
        "reference": converter.page,
        "licence": converter.licence,
        "citation": converter.citation,
        "converted_by": f"nnmedseg {program_version()}",
        "nnmedseg": {"counts": dict(counts), "converter": converter.name},
    }
