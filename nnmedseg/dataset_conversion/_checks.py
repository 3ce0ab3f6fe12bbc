"""What can be wrong with the cases of a download before any image is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnmedseg.dataset_conversion.base import Case, DatasetConverter, is_ignorable
from nnmedseg.errors import list_some

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NO_PUBLIC_MASKS = "the masks of this part are not there"
NOT_OF_A_CASE = "not an image or mask of a case by its name"


@dataclass
class CheckedCases:
    """The cases of a download, divided by what is to be done with them.

    Attributes:
        cases: What can be converted, sorted by id.
        problems: What the user has to mend, one sentence each.
        skipped: Files that are left out on purpose, with the reason.
    """

    cases: list[Case] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)


def check_cases(found: Sequence[Case], converter: DatasetConverter) -> CheckedCases:
    """Check that every case is whole and that ids are unique.

    A validation part without any mask is left out, a test part without any mask keeps its images.
    """
    checked = CheckedCases(problems=list(_clashing_ids(found)))
    parts_with_masks = {case.part for case in found if case.masks}
    for case in sorted(found, key=lambda case: case.id):
        if case.part == "validation" and case.part not in parts_with_masks:
            checked.skipped.update(dict.fromkeys(case.images, NO_PUBLIC_MASKS))
            continue
        problems = list(_problems_of(case, converter, needs_mask=case.part in parts_with_masks))
        checked.problems += problems
        if not problems:
            checked.cases.append(case)
    if not any(case.part == "train" for case in found):
        checked.problems.append("there is no training case")
    checked.skipped.update(_other_files(found))
    return checked


def _problems_of(case: Case, converter: DatasetConverter, *, needs_mask: bool) -> Iterator[str]:
    channel_files = 1 if converter.file_ending == ".png" else len(converter.channel_names)
    if not SAFE_ID.fullmatch(case.id):
        yield f"{_names(case.images or case.masks)}: {case.id!r} cannot be a file's name"
    if not case.images:
        yield f"{_names(case.masks)}: a mask without an image"
    elif len(case.images) != channel_files:
        yield f"{_names(case.images)}: {len(case.images)} images of one case"
    if not case.masks and (needs_mask or case.part == "train"):
        yield f"{_names(case.images)}: an image without a mask"
    if len(case.masks) > 1 and not converter.unites_masks:
        yield f"{_names(case.masks)}: {len(case.masks)} masks of one case"


def _clashing_ids(cases: Sequence[Case]) -> Iterator[str]:
    """Yield a problem for ids that are equal in file systems that ignore letter case."""
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.id.casefold(), case)
        if other is not case:
            files = [*other.images, *case.images] or [*other.masks, *case.masks]
            yield f"{_names(files)}: the same id, {case.id}, in {other.part} and {case.part}"


def _other_files(cases: Sequence[Case]) -> Iterator[tuple[Path, str]]:
    """Yield the files that lie among those of the cases without belonging to one."""
    used = {path for case in cases for path in (*case.images, *case.masks)}
    for folder in sorted({path.parent for path in used}):
        for path in sorted(folder.iterdir()):
            if path not in used and path.is_file() and not is_ignorable(path):
                yield path, NOT_OF_A_CASE


def _names(files: Sequence[Path]) -> str:
    return list_some([f"{path.parent.name}/{path.name}" for path in files], limit=4)
