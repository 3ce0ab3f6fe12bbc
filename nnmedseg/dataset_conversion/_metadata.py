"""What describes a converted data set: dataset.json, splits_final.json and conversion.json."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from nnmedseg.data import splits
from nnmedseg.data.duplicates import Duplicates, groups_of
from nnmedseg.dataset_conversion import _duplicates
from nnmedseg.dataset_conversion._case_files import Record
from nnmedseg.dataset_conversion.base import DatasetConverter
from nnmedseg.dataset_conversion.protocols import Protocol
from nnmedseg.errors import DataError, list_some
from nnmedseg.files import write_json

logger = logging.getLogger(__name__)


def program_version() -> str:
    """Return the version of nnmedseg, or ``unknown`` when it runs without being installed."""
    try:
        return metadata.version("nnmedseg")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class Conversion:
    """What was converted, and what was found about it.

    Attributes:
        name: Final name of the data set's folder.
        converter: What the data set is.
        records: What was written, one record a case.
        source: The download folder.
        skipped: Files that were left out, with the reason.
        duplicates: Pairs of images that are the same.
        protocol: The paper's division of the cases that was asked for.
        allow_leaks: Whether training images that are also test images stay in the folds.
        settings: What was chosen and decides the result.
    """

    name: str
    converter: DatasetConverter
    records: Sequence[Record]
    source: Path
    skipped: Sequence[Mapping[str, Any]]
    duplicates: Sequence[Duplicates]
    protocol: Protocol | None
    allow_leaks: bool
    settings: Mapping[str, Any]

    def counts(self) -> dict[str, int]:
        """Return the number of cases of each part."""
        counts = dict.fromkeys(("train", "validation", "test"), 0)
        counts.update(Counter(record["part"] for record in self.records))
        return counts

    def ids(self, part: str) -> list[str]:
        """Return the cases of a part."""
        return [record["id"] for record in self.records if record["part"] == part]

    def leaking(self) -> list[str]:
        """Return the training cases that stay out of the folds, being test images too."""
        if self.allow_leaks:
            return []
        return _duplicates.leaking_cases(self.records, self.duplicates)

    def warnings(self) -> list[str]:
        """Return what the user should know, one sentence each."""
        warnings = [*self.converter.notes, *self.converter.review(self.records)]
        if self.protocol is not None:
            warnings += self.protocol.warnings
        two_valued = [record["id"] for record in self.records if record.get("two_valued")]
        if two_valued:
            warnings.append(f"Images with two values only, like masks: {list_some(two_valued)}")
        leaking = _duplicates.leaking_cases(self.records, self.duplicates)
        if leaking:
            what = "They stay in the folds" if self.allow_leaks else "No fold trains on them"
            warnings.append(
                f"{len(leaking)} training image(s) are also test images: {list_some(leaking)}. "
                f"{what}."
            )
        return warnings


def write_descriptions(folder: Path, conversion: Conversion) -> None:
    """Write all three files; no path of the user's machine is in any of them.

    Args:
        folder: The data set's folder, under whatever name it is built.
        conversion: What was converted.
    """
    split = _make_splits(conversion)
    write_json(split, folder / "splits_final.json")
    write_json(_dataset_json(conversion), folder / "dataset.json")
    record = {
        "dataset": conversion.converter.name,
        "folder": conversion.name,
        "source": conversion.source.name,
        "converted_on": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "nnmedseg_version": program_version(),
        "settings": dict(conversion.settings),
        "counts": conversion.counts(),
        "split": conversion.settings["split"],
        "split_sha256": splits.split_hash(split),
        "in_no_fold": conversion.leaking(),
        "warnings": conversion.warnings(),
        "duplicates": _duplicates.describe(conversion.records, conversion.duplicates),
        "cases": list(conversion.records),
        "skipped": list(conversion.skipped),
    }
    write_json(record, folder / "conversion.json")


def _make_splits(conversion: Conversion) -> list[splits.Split]:
    """Return five folds of the training part, and its official or published division as fold 5."""
    left_out = set(conversion.leaking())
    train = [case for case in conversion.ids("train") if case not in left_out]
    validation = [case for case in conversion.ids("validation") if case not in left_out]
    records = conversion.records
    groups = {record["id"]: record["group"] for record in records if record["group"] is not None}
    sizes = {record["id"]: record.get("foreground_share", 0.0) for record in records}
    together = groups_of(conversion.duplicates)
    try:
        folds = splits.cross_validation(train, groups, sizes, together)
    except DataError as error:
        logger.warning("No folds: %s. Train with -f all.", error.what)
        return []
    if len(folds) == splits.FOLDS:
        if validation:
            return splits.with_official_split(folds, train, validation, together)
        return folds
    logger.warning(
        "Only %d folds: five need at least five training cases (or groups), here are %d cases%s",
        len(folds),
        len(train),
        ". The official validation part is no fold of its own for the same reason"
        if validation
        else "",
    )
    return folds


def _dataset_json(conversion: Conversion) -> dict[str, object]:
    converter, counts = conversion.converter, conversion.counts()
    return {
        "channel_names": dict(converter.channel_names),
        "labels": dict(converter.labels),
        "numTraining": counts["train"] + counts["validation"],
        "file_ending": converter.file_ending,
        "overwrite_image_reader_writer": converter.reader,
        "name": converter.dataset_name,
        "description": converter.title,
        "reference": converter.page,
        "licence": converter.licence,
        "citation": converter.citation,
        "converted_by": f"nnmedseg {program_version()}",
        "nnmedseg": {"counts": counts, "converter": converter.name},
    }
