"""Which files belong to which case, and which are missing or superfluous."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nnmedseg.data.integrity import _description as description_file
from nnmedseg.data.integrity._description import Description, take_likely_ending
from nnmedseg.data.integrity._report import Problem, problem
from nnmedseg.data.integrity._volumes import is_stack
from nnmedseg.errors import list_some

Part = Literal["train", "test"]
FOLDERS: dict[Part, tuple[str, str]] = {
    "train": ("imagesTr", "labelsTr"),
    "test": ("imagesTs", "labelsTs"),
}
FILES_OF_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
IMPOSSIBLE_IN_IDS = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case that are there.

    Attributes:
        id: Its id.
        part: ``train`` or ``test``.
        images: Files of the channels, in their order.
        label: File of the label, if there is one.
    """

    id: str
    part: Part
    images: tuple[Path, ...]
    label: Path | None


@dataclass
class Layout:
    """The cases of a data set.

    Attributes:
        cases: Sorted by part and id, those included that lack files.
        problems: What is wrong with the names.
    """

    cases: list[CaseFiles] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def images(self) -> list[Path]:
        """Return the image files of all cases; nnU-Net chooses its reader by the first."""
        return [path for case in self.cases for path in case.images]

    def ids(self, part: Part) -> set[str]:
        """Return the ids of the cases of a part."""
        return {case.id for case in self.cases if case.part == part}


def find_layout(folder: Path, description: Description) -> Layout:
    """Find the cases of both parts; an unknown file ending is guessed."""
    if description.file_ending is None:
        take_likely_ending(description, _names(folder / FOLDERS["train"][0]))
    layout = Layout()
    if description.listed is not None:
        layout.cases += _listed_cases(folder, description.listed, layout.problems)
    for part in FOLDERS:
        if part == "train" and description.listed is not None:
            continue
        if part == "test" and not (folder / FOLDERS[part][0]).is_dir():
            continue
        layout.cases += _cases_of_part(folder, part, description, layout.problems)
    if description.may_be_stack and any(is_stack(path) for path in layout.images()[:1]):
        description.content = "stack"
    layout.problems += _case_count(layout, description)
    for part in FOLDERS:
        layout.problems += _faults_of_ids(case for case in layout.cases if case.part == part)
    layout.problems += _superfluous(folder, layout, description)
    return layout


def name_of(path: Path, folder: Path) -> str:
    """Return the name of a file relative to the data set, or its absolute path outside of it."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _listed_cases(
    folder: Path, listed: dict[str, dict], problems: list[Problem]
) -> Iterator[CaseFiles]:
    """Yield the cases under ``dataset`` in dataset.json, whose paths may hold variables."""
    for case_id, entry in sorted(listed.items()):
        files = [
            Path(os.path.abspath(folder / os.path.expandvars(name)))  # noqa: PTH100 - keeps links
            for name in (*entry["images"], entry["label"])
        ]
        for path in files:
            if not path.is_file():
                kind = "missing-label" if path == files[-1] else "missing-image"
                what = f"{description_file.FILE} names this file, and it is not there"
                problems.append(problem(kind, name_of(path, folder), what))
        images = tuple(path for path in files[:-1] if path.is_file())
        yield CaseFiles(case_id, "train", images, files[-1] if files[-1].is_file() else None)


def _cases_of_part(
    folder: Path, part: Part, description: Description, problems: list[Problem]
) -> list[CaseFiles]:
    images_folder, labels_folder = (folder / name for name in FOLDERS[part])
    for needed in (images_folder, labels_folder) if part == "train" else ():
        if not needed.is_dir():
            problems.append(problem("no-cases", needed.name, "the folder is missing"))
    ending = description.file_ending
    if ending is None:
        return []
    channels = _channels_by_case(images_folder, ending, problems)
    labels = _files_with(labels_folder, ending)
    problems += _wrong_ending(images_folder, ending)
    cases = []
    for case_id in sorted({*channels, *labels}):
        images = channels.get(case_id, {})
        label = labels.get(case_id)
        case = CaseFiles(case_id, part, tuple(images[n] for n in sorted(images)), label)
        cases.append(case)
        problems += _missing_files(case, set(images), folder, ending, has_labels=bool(labels))
    return cases


def _files_with(folder: Path, ending: str) -> dict[str, Path]:
    """Return the visible files with an ending, by what stands before it."""
    return {
        name[: -len(ending)]: folder / name
        for name in _names(folder)
        if name.endswith(ending) and not name.startswith(".") and (folder / name).is_file()
    }


def _channels_by_case(
    folder: Path, ending: str, problems: list[Problem]
) -> dict[str, dict[int, Path]]:
    """Return the image files of a folder by case and channel."""
    cases: dict[str, dict[int, Path]] = {}
    for stem, path in _files_with(folder, ending).items():
        match = re.fullmatch(r"(?P<id>.+)_(?P<channel>[0-9]{4})", stem)
        if match is None:
            what = (
                "the name has no channel number; nnU-Net takes its last five characters for one: "
                f"rename it to {stem}_0000{ending}"
            )
            problems.append(problem("channel-files", f"{folder.name}/{path.name}", what))
        case_id, channel = (match["id"], int(match["channel"])) if match else (stem, 0)
        cases.setdefault(case_id, {})[channel] = path
    return cases


def _missing_files(
    case: CaseFiles, channels: set[int], folder: Path, ending: str, *, has_labels: bool
) -> Iterator[Problem]:
    images_folder, labels_folder = FOLDERS[case.part]
    if not case.images and case.label is not None:
        what = f"the label has no image; {images_folder}/{case.id}_0000{ending} is missing"
        yield problem("missing-image", name_of(case.label, folder), what)
        return
    first = name_of(case.images[0], folder)
    if case.label is None:
        what = f"the image has no label; {labels_folder}/{case.id}{ending} is missing"
        if case.part == "train":
            yield problem("missing-label", first, what)
        elif has_labels:
            yield problem("unlabelled-test", first, what)
    gaps = sorted(set(range(max(channels))) - channels)
    if gaps:
        absent = list_some([f"{images_folder}/{case.id}_{gap:04d}{ending}" for gap in gaps])
        yield problem("channel-files", first, f"channels are missing: {absent}")


def _wrong_ending(folder: Path, ending: str) -> Iterator[Problem]:
    names = [name for name in _names(folder) if not name.startswith(".")]
    if names and not any(name.endswith(ending) for name in names):
        what = (
            f"file_ending is {ending!r}, and no file in {folder.name} ends so "
            f"(there are {list_some(names, 3)}); letter case counts"
        )
        yield problem("file-ending", description_file.FILE, what)


def _case_count(layout: Layout, description: Description) -> Iterator[Problem]:
    cases = [case for case in layout.cases if case.part == "train"]
    # nnU-Net counts the images that it finds, or the cases that dataset.json lists.
    found = len([case for case in cases if case.images or description.listed is not None])
    if found == 0:
        what = "there is no training case"
        yield problem("no-cases", FOLDERS["train"][0], what)
    if description.num_training not in (None, found):
        what = f"numTraining is {description.num_training}, but there are {found} training cases"
        yield problem("case-count", description_file.FILE, what)


def _faults_of_ids(cases: Iterable[CaseFiles]) -> Iterator[Problem]:
    first: dict[str, CaseFiles] = {}
    for case in cases:
        files = [*case.images, *([case.label] if case.label else [])]
        file = f"{FOLDERS[case.part][0]}/{files[0].name}" if files else description_file.FILE
        if not case.id.strip() or IMPOSSIBLE_IN_IDS.search(case.id) or case.id.startswith("."):
            what = f"the case id {case.id!r} cannot be a file's name on every system"
            yield problem("case-id", file, what)
        elif not PLAIN_ID.fullmatch(case.id):
            what = f"the case id {case.id!r} has blanks or characters besides letters and digits"
            yield problem("case-name", file, what)
        other = first.setdefault(case.id.casefold(), case)
        if other is not case:
            what = (
                f"the case ids {other.id} and {case.id} differ in letter case only, and are one "
                "file on Windows and macOS: rename one"
            )
            yield problem("case-id", file, what)


def _superfluous(folder: Path, layout: Layout, description: Description) -> Iterator[Problem]:
    used = {path for case in layout.cases for path in (*case.images, case.label)}
    ending = description.file_ending
    misnamed = any(found.kind == "file-ending" for found in layout.problems)
    for part_folder in (folder / name for names in FOLDERS.values() for name in names):
        for name in _names(part_folder):
            path = part_folder / name
            file = name_of(path, folder)
            if path in used or name in FILES_OF_SYSTEMS:
                continue
            if _is_spacing_of_stack(path, description):
                continue
            takes = ending is not None and name.endswith(ending) and description.listed is None
            if takes and name.startswith(".") and part_folder.name.startswith("images"):
                what = (
                    "a hidden file, as systems and interrupted copies leave it, that nnU-Net takes "
                    "for an image: delete it"
                )
                yield problem("hidden-file", file, what)
            elif not misnamed or name.startswith("."):
                yield problem("superfluous", file, "it belongs to no case; nnU-Net passes over it")


def _is_spacing_of_stack(path: Path, description: Description) -> bool:
    """Return whether it is a file with the spacing of a TIFF, which lies beside it."""
    return description.content == "stack" and path.suffix == ".json"
