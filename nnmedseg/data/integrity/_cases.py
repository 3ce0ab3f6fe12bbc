"""One case: its files decoded one after the other, each once, and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnmedseg.data.duplicates import Entry, signature
from nnmedseg.data.integrity._contents import Contents, FileFormat, Finding
from nnmedseg.data.integrity._description import Content, Description
from nnmedseg.data.integrity._images import NATURAL_IMAGES
from nnmedseg.data.integrity._labels import check_label
from nnmedseg.data.integrity._layout import CaseFiles, name_of
from nnmedseg.data.integrity._report import Problem, UnusableFileError, problem
from nnmedseg.data.integrity._volumes import NIFTI_VOLUMES, STACKS, VOLUMES
from nnmedseg.data.volumes import non_finite_count

FORMATS: dict[Content, FileFormat] = {
    "image": NATURAL_IMAGES,
    "volume": VOLUMES,
    "nifti": NIFTI_VOLUMES,
    "stack": STACKS,
}


@dataclass
class CaseFindings:
    """What is known of a case when its files have been read; their values are not kept.

    Attributes:
        problems: What is wrong.
        has_foreground: Whether its label holds more than background; ``None``: not known.
        image: The first channel, for the search for duplicates.
    """

    problems: list[Problem] = field(default_factory=list)
    has_foreground: bool | None = None
    image: Entry | None = None


def check_case(
    case: CaseFiles, *, folder: Path, description: Description, file_format: FileFormat
) -> CaseFindings:
    """Decode the files of a case and check them."""
    check = _CaseCheck(folder, file_format)
    channels = [check.image(path) for path in case.images]
    counts = [count for count in channels if count is not None]
    if counts and len(counts) == len(channels):
        check.report(case.images[0], *_findings_of_channels(counts, description, file_format))
    if case.label is not None:
        check.label(case.label, description)
    return check.found


class _CaseCheck:
    """The state while the files of one case are read."""

    def __init__(self, folder: Path, file_format: FileFormat):
        self.found = CaseFindings()
        self.folder = folder
        self.file_format = file_format
        self.first_grid: Any = None

    def report(self, path: Path, *findings: Finding) -> None:
        name = name_of(path, self.folder)
        self.found.problems += [problem(kind, name, what) for kind, what in findings]

    def image(self, path: Path) -> int | None:
        """Check the file of one or all channels and return their number, if it can be read."""
        contents = self._read(self.file_format.read_image, path)
        if contents is None or contents.values is None:
            return None
        self.report(path, *_findings_of_image(contents.values))
        if self.first_grid is None:
            self.first_grid = contents.grid
            self.found.image = _entry(path, self.folder, contents.values, self.file_format)
        return contents.channels

    def label(self, path: Path, description: Description) -> None:
        contents = self._read(self.file_format.read_label, path)
        if contents is not None and contents.values is not None:
            findings, self.found.has_foreground = check_label(contents.values, description)
            self.report(path, *findings)

    def _read(self, reader: Callable[[Path], Contents], path: Path) -> Contents | None:
        try:
            contents = reader(path)
        except UnusableFileError as error:
            self.report(path, (error.kind, error.what))
            return None
        self.report(path, *contents.findings)
        if self.first_grid is not None:
            difference = self.file_format.difference(self.first_grid, contents.grid)
            self.report(path, *([difference] if difference else []))
        return contents


def _findings_of_image(values: np.ndarray) -> list[Finding]:
    unusable = non_finite_count(values)
    if unusable:
        return [("non-finite", f"{unusable:,} values of the image are NaN or infinite")]
    if values.min() == values.max():
        return [("constant-image", f"every value of the image is {values.flat[0]}")]
    return []


def _findings_of_channels(
    channels: list[int], description: Description, file_format: FileFormat
) -> list[Finding]:
    found, expected = sum(channels), description.channels
    if expected is None or found == expected:
        return []
    reason = ""
    if channels == [4]:
        reason = ": save it without alpha"
    elif found < expected and found == len(channels):
        reason = f": the file of channel _{found:04d} is missing"
        if file_format is NATURAL_IMAGES:
            reason += ", or the image should be in colours"
    what = f"the image has {found} channel(s) where dataset.json names {expected}{reason}"
    return [("channel-count", what)]


def _entry(path: Path, folder: Path, values: np.ndarray, file_format: FileFormat) -> Entry | None:
    if non_finite_count(values):
        return None

    def load() -> np.ndarray:
        loaded = file_format.read_image(path).values
        if loaded is None:
            raise ValueError(f"{path} holds no values")
        return loaded

    return Entry(name_of(path, folder), signature(values), load)
