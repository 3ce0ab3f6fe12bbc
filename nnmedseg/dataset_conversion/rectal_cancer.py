"""Rectal cancer in contrast CT (7th Teddy Cup 2019, problem B), slice by slice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnmedseg.dataset_conversion._listed_files import find_tables
from nnmedseg.dataset_conversion._patterns import list_files
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Part
from nnmedseg.dataset_conversion.finding import find_folders, find_images, pair_by_name, safe_id
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError, NotFoundError, list_some

ENDINGS = (".dcm", ".ima", ".png", ".tif", ".tiff", ".bmp")
MASK_NAME = re.compile(r"(?P<id>.+)_mask", re.IGNORECASE)
PHASE = re.compile(r"(?P<phase>\w+)[ _-]phase", re.IGNORECASE)
MASK_FOLDERS = ("mask", "masks")
PATIENT = re.compile(r"(case\d+)_slice\d+", re.IGNORECASE)
COLUMNS = ("image_id", "category")
PARTS: Mapping[str, Part] = {"train": "train", "val": "validation", "test": "test"}


@register
class RectalCancer(DatasetConverter):
    """107 patients; a folder each, with one folder a phase, or HeteroMedSeg's images and masks.

    Hounsfield units of DICOM files are seen through the window of the release's own code, level
    75 and width 250. Slices of one patient stay together in all folds.
    """

    name = "RectalCancer"
    number = 14
    title = "Rectal cancer in contrast CT (Teddy Cup 2019, problem B)"
    page = "https://github.com/zf617707527/Unet1"
    licence = "not stated"
    citation = "7th Teddy Cup data mining challenge, problem B (2019)"
    content = "grey"
    channel_names: Mapping[str, str] = {"0": "grey"}
    labels: Mapping[str, int] = {"background": 0, "tumour": 1}
    window = (-50.0, 200.0)

    def find_cases(self, root: Path) -> list[Case]:
        """Find slices in folders of patients, or in ``images`` and ``masks``.

        Raises:
            NotFoundError: There are neither.
            DataError: A mask belongs to several slices, or a table has an unknown part.
        """
        found = find_folders(root, ["images", "masks"])
        cases = self._in_two_folders(root, found) if len(found) == 2 else self._by_patient(root)
        if not cases:
            raise NotFoundError(
                "there are no slices with masks",
                where=root,
                mend="unpack the release into this folder: patients with slices (10001.dcm) and "
                "masks (10001_mask.png), or the folders images and masks",
            )
        return cases

    def review(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Say how many slices show no tumour, which the paper leaves out."""
        empty = sum(record.get("foreground_pixels") == 0 for record in records)
        if not empty:
            return []
        return [
            f"{empty} of {len(records)} slices have an empty mask; they were kept. The paper keeps "
            "only slices with tumour (860)."
        ]

    def _in_two_folders(self, root: Path, found: Mapping[str, Path]) -> list[Case]:
        cases = pair_by_name(
            find_images(found["images"]), find_images(found["masks"]), part="train"
        )
        tables = find_tables(root, COLUMNS)
        if len(tables) > 1:
            names = ", ".join(sorted(path.name for path in tables))
            raise DataError(
                f"there are several tables with image_id and category: {names}",
                where=root,
                mend="keep the one whose division is wanted",
            )
        for table, rows in tables.items():
            cases = self._divided(cases, table, rows, found)
        cases = [replace(case, group=_patient_of(case.id)) for case in cases]
        in_test = {case.group for case in cases if case.part == "test"} - {None}
        both = in_test & {case.group for case in cases if case.part != "test"}
        if both:
            self.notes.append(
                f"The published division is by slice: {len(both)} of {len(in_test)} patients of "
                "the test part also have slices for training, so results on it are optimistic."
            )
        return cases

    def _divided(
        self,
        cases: Sequence[Case],
        table: Path,
        rows: Sequence[Mapping[str, str]],
        found: Mapping[str, Path],
    ) -> list[Case]:
        """Give cases the parts of the published table; it must name all that are wanted."""
        unknown = {row["category"] for row in rows} - PARTS.keys()
        if unknown:
            raise DataError(
                f"the table has the category {sorted(unknown)[0]!r}",
                where=table,
                mend=f"category is one of {', '.join(PARTS)}",
            )
        by_id = {case.id.casefold(): case for case in cases}
        divided = []
        for row in rows:
            file = Path(row["image_id"]).name
            name = safe_id(Path(file).stem)
            # A slice that is not there is reported with its name when it cannot be read.
            absent = Case(name, (found["images"] / file,), (found["masks"] / file,))
            case = by_id.pop(name.casefold(), absent)
            divided.append(replace(case, part=PARTS[row["category"]]))
        if by_id:
            files = (path for case in by_id.values() for path in (*case.images, *case.masks))
            self.left_out |= dict.fromkeys(files, f"not named in {table.name}")
            self.notes.append(
                f"{table.name} does not name {len(by_id)} slice(s), which were left out: "
                f"{list_some(sorted(case.id for case in by_id.values()))}."
            )
        return divided

    def _by_patient(self, root: Path) -> list[Case]:
        files = [path for path, name in list_files(root) if name.casefold().endswith(ENDINGS)]
        masks = {path: _slice_of(path) for path in files}
        slices: dict[Path, dict[str, Path]] = {}
        for path in files:
            if masks[path] is None:
                slices.setdefault(path.parent, {})[path.stem.casefold()] = path
        found: dict[Path, list[Path]] = {}
        orphans = []
        for mask, stem in masks.items():
            if stem is not None:
                owner = _owner(mask, stem, slices)
                if owner is None:
                    orphans.append(mask)
                else:
                    found.setdefault(owner, []).append(mask)
        cases = [_case(path, tuple(masks)) for path, masks in found.items()]
        cases += [replace(_case(mask, (mask,)), images=()) for mask in orphans]
        self._note_slices_without_masks(slices, found)
        return cases

    def _note_slices_without_masks(
        self, slices: Mapping[Path, Mapping[str, Path]], found: Mapping[Path, object]
    ) -> None:
        without = [path for same in slices.values() for path in same.values() if path not in found]
        patients = {_place_of(path)[0] for path in without} - {_place_of(path)[0] for path in found}
        if without:
            self.left_out |= dict.fromkeys(without, "a slice without a mask file")
            self.notes.append(
                f"{len(without)} slice(s) have no mask file and were left out; {len(patients)} "
                "patient(s) have no mask at all."
            )


def _slice_of(path: Path) -> str | None:
    """Return the name of the slice that a mask belongs to, None for slices."""
    match = MASK_NAME.fullmatch(path.stem)
    if match:
        return match["id"].casefold()
    return path.stem.casefold() if path.parent.name.casefold() in MASK_FOLDERS else None


def _owner(mask: Path, stem: str, slices: Mapping[Path, Mapping[str, Path]]) -> Path | None:
    """Return the slice of a mask: in its folder, the one above, or one beside it."""
    for near in ([mask.parent], [mask.parent.parent], _siblings(mask.parent, slices)):
        owners = [slices[folder][stem] for folder in near if stem in slices.get(folder, {})]
        if len(owners) > 1:
            shown = ", ".join(f"{path.parent.name}/{path.name}" for path in owners)
            raise DataError(
                f"the mask belongs to more than one slice: {shown}",
                where=mask,
                mend="move the masks into the folders of their phases",
            )
        if owners:
            return owners[0]
    return None


def _siblings(folder: Path, slices: Mapping[Path, object]) -> list[Path]:
    """Return the folders beside a folder of masks that may hold its slices, of the same patient."""
    holds_masks = folder.name.casefold() in MASK_FOLDERS
    return [
        other
        for other in slices
        if other.parent == folder.parent
        and other != folder
        and (holds_masks or PHASE.fullmatch(other.name))
    ]


def _case(path: Path, masks: tuple[Path, ...]) -> Case:
    patient, phase = _place_of(path)
    stem = MASK_NAME.sub(r"\g<id>", path.stem)
    name = "_".join(filter(None, (patient, phase, stem)))
    return Case(safe_id(name), (path,), masks, group=patient)


def _place_of(path: Path) -> tuple[str, str]:
    """Return patient and phase (or an empty text) from the folders of a slice."""
    folder = path.parent
    if folder.name.casefold() in MASK_FOLDERS:
        folder = folder.parent
    phase = PHASE.fullmatch(folder.name)
    if phase:
        return folder.parent.name, phase["phase"].casefold()
    return folder.name, ""


def _patient_of(name: str) -> str | None:
    match = PATIENT.fullmatch(name)
    return match[1].casefold() if match else None
