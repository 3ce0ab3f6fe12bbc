"""What a check of a data set has found: problems by file, each of a named kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]

ERRORS = {
    "no-description": "dataset.json is missing",
    "bad-description": "dataset.json is not JSON, lacks a key, or a key has a wrong value",
    "label-definition": "the labels in dataset.json are not 0, 1, 2, ... with a background",
    "file-ending": "the file_ending in dataset.json is not that of the files, or has no reader",
    "case-count": "numTraining in dataset.json is not the number of training cases",
    "no-cases": "there is no training case, or a folder is missing",
    "missing-image": "a label has no image, or a file that is named somewhere is not there",
    "missing-label": "a training image has no label",
    "channel-files": "the channels of a case are not _0000, _0001, ... without a gap",
    "hidden-file": "a hidden file that nnU-Net takes for a case",
    "case-id": "a case id that cannot be a file's name, or two that differ in letter case only",
    "empty": "a file of no bytes",
    "wrong-format": "the content is not of the format that the name promises",
    "damaged": "a file that is damaged, truncated, or cannot be read",
    "absurd-size": "a header that claims more than is read, or than the file can hold",
    "dimensions": "a file with more or fewer dimensions than the data set has",
    "non-finite": "NaN or infinite values",
    "channel-count": "the files hold more or fewer channels than dataset.json names",
    "size": "label or channel of another size than the image",
    "geometry": "label or channel of another spacing, origin or direction than the image",
    "label-colours": "a label in colours, with a palette, with alpha, or compressed with losses",
    "label-values": "values that dataset.json does not name",
    "black-white-mask": "a mask of 0 and 255 where dataset.json names small numbers",
    "fractional-label": "values between whole numbers in a label",
    "no-foreground": "no training label holds anything but background",
    "bad-split": "splits_final.json is not a list of folds with train and val",
    "split-case": "splits_final.json names a case that is not there",
    "split-overlap": "a case is in train and in val of the same fold",
    "bad-conversion": "conversion.json cannot be read",
}
WARNINGS = {
    "channel-names": "the channels in dataset.json are not numbered 0, 1, 2, ...",
    "case-name": "a case id with blanks or characters that other programs stumble over",
    "unlabelled-test": "a test image without a label where others have one",
    "superfluous": "a file that nnU-Net passes over",
    "background-only": "a label that holds background only",
    "constant-image": "an image of a single value",
    "geometry-rounding": "label or channel less than a twentieth of a voxel beside the image",
    "label-16-bit": "a label with 16 or more bits",
    "split-unused": "a case that is in no fold of splits_final.json",
    "duplicate": "two images with the same pixels",
    "near-duplicate": "two images that hardly differ",
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a file.

    Attributes:
        severity: ``error``: training fails or learns something wrong; ``warning``: it may be
            intended.
        kind: A key of ``ERRORS`` or ``WARNINGS``; it stays the same between versions.
        file: Relative to the data set's folder; absolute if the file lies elsewhere.
        what: One sentence, with how to mend it where that helps.
    """

    severity: Severity
    kind: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.what} [{self.kind}]"


@dataclass(frozen=True)
class Report:
    """All problems of a data set.

    Attributes:
        dataset: Name of its folder.
        cases: How many training and test cases were looked at.
        problems: Sorted by file.
    """

    dataset: str
    cases: int
    problems: list[Problem]

    @property
    def errors(self) -> list[Problem]:
        """Problems that must be mended."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """Problems that may be intended."""
        return [problem for problem in self.problems if problem.severity == "warning"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, for JSON."""
        return {
            "dataset": self.dataset,
            "cases": self.cases,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "problems": [asdict(problem) for problem in self.problems],
        }


class UnusableFileError(Exception):
    """A file that cannot be looked into any further.

    Attributes:
        kind: A key of ``ERRORS``.
        what: One sentence.
    """

    def __init__(self, kind: str, what: str):
        self.kind = kind
        self.what = what
        super().__init__(what)


def problem(kind: str, file: str, what: str) -> Problem:
    """Return a problem of that kind, which decides how severe it is."""
    if kind in ERRORS:
        return Problem("error", kind, file, what)
    if kind in WARNINGS:
        return Problem("warning", kind, file, what)
    raise ValueError(f"{kind!r} is no kind of problem")


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by file, errors first, without repetitions."""
    return sorted(set(problems), key=lambda found: (found.file, *_rank(found)))


def _rank(found: Problem) -> tuple[str, str, str]:
    return found.severity, found.kind, found.what
