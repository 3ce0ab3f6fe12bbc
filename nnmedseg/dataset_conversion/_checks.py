"""What can be wrong with the cases of a download before any image is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import is_ignorable
from nnmedseg.errors import list_some

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NO_PUBLIC_MASKS = "the masks of this part are not there"
NOT_OF_A_CASE = "not an image or mask of a case by its name"


@dataclass(frozen=True)
class CaseProblem:
    """What is wrong with a case.

    Attributes:
        what: One sentence that names the files.
        files: The files that cannot be converted because of it.
    """

    what: str
    files: tuple[Path, ...] = ()


@dataclass
class CheckedCases:
    """The cases of a download, divided by what is to be done with them.

    Attributes:
        cases: What can be converted, sorted by id.
        problems: What the user has to mend.
        skipped: Files that are left out on purpose, with the reason.
    """

    cases: list[Case] = field(default_factory=list)
    problems: list[CaseProblem] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Return every file that is used or mentioned."""
        used = [path for case in self.cases for path in (*case.images, *case.masks)]
        broken = [path for problem in self.problems for path in problem.files]
        return [*used, *broken, *self.skipped]


def check_cases(found: Sequence[Case], converter: DatasetConverter) -> CheckedCases:
    """Check that every case is whole and that ids are unique.

    A validation part without any mask is left out, a test part without any mask keeps its images.
    """
    checked = CheckedCases()
    parts_with_masks = {case.part for case in found if case.masks}
    clashing = _clashing_ids(found)
    for case in sorted(found, key=lambda case: case.id):
        if case.part == "validation" and case.part not in parts_with_masks:
            checked.skipped.update(dict.fromkeys(case.images, NO_PUBLIC_MASKS))
            continue
        files = (*case.images, *case.masks)
        problems = list(_problems_of(case, converter, needs_mask=case.part in parts_with_masks))
        checked.problems += [CaseProblem(what, files) for what in problems]
        if not problems and case.id.casefold() not in clashing:
            checked.cases.append(case)
    checked.problems += clashing.values()
    if not any(case.part == "train" for case in found):
        checked.problems.append(CaseProblem("there is no training case"))
    checked.skipped.update(_other_files(found))
    checked.skipped.update(converter.left_out)
    return checked


def _problems_of(case: Case, converter: DatasetConverter, *, needs_mask: bool) -> Iterator[str]:
    if not SAFE_ID.fullmatch(case.id):
        yield f"{_names(case.images or case.masks)}: {case.id!r} cannot be a file's name"
    if not case.images:
        yield f"{_names(case.masks)}: a mask without an image"
    elif len(case.images) > 1 and converter.content != "volume":
        yield f"{_names(case.images)}: {len(case.images)} images of one case"
    for channel in case.missing_channels:
        yield f"{_names(case.images)}: no file of the channel {channel}"
    if not case.masks and (needs_mask or case.part == "train"):
        yield f"{_names(case.images)}: an image without a mask"
    if len(case.masks) > 1 and not (converter.unites_masks or converter.slices_are_files):
        yield f"{_names(case.masks)}: {len(case.masks)} masks of one case"


def _clashing_ids(cases: Sequence[Case]) -> dict[str, CaseProblem]:
    """Return a problem for each id that is there twice where letter case is ignored."""
    by_id: dict[str, list[Case]] = {}
    for case in cases:
        by_id.setdefault(case.id.casefold(), []).append(case)
    return {
        key: CaseProblem(
            f"{_names(_files(same))}: the same id, {same[0].id}, in "
            f"{' and '.join(dict.fromkeys(case.part for case in same))}",
            _files(same),
        )
        for key, same in by_id.items()
        if len(same) > 1
    }


def _files(cases: Sequence[Case]) -> tuple[Path, ...]:
    return tuple(path for case in cases for path in (*case.images, *case.masks))


def _other_files(cases: Sequence[Case]) -> Iterator[tuple[Path, str]]:
    """Yield the files that lie among those of the cases without belonging to one."""
    used = {path for case in cases for path in (*case.images, *case.masks)}
    for folder in sorted({path.parent for path in used}):
        for path in sorted(folder.iterdir()):
            if path not in used and path.is_file() and not is_ignorable(path):
                yield path, NOT_OF_A_CASE


def _names(files: Sequence[Path]) -> str:
    return list_some([f"{path.parent.name}/{path.name}" for path in files], limit=4)
