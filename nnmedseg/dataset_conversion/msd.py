"""Tasks of the Medical Segmentation Decathlon, and data sets in its form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from nnmedseg.dataset_conversion._dataset_name import check_dataset_name
from nnmedseg.dataset_conversion._label_names import BACKGROUND
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Part
from nnmedseg.dataset_conversion.finding import (
    LEVELS,
    find_images,
    require_folders,
    safe_id,
    subfolders,
)
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError, NotFoundError, list_some

DESCRIPTION = "dataset.json"
ENDINGS = (".nii.gz", ".nii")
FOLDERS = ("imagesTr", "labelsTr", "imagesTs")


@register
class MSD(DatasetConverter):
    """One task: volumes with ``dataset.json``, which names channels, labels and all files.

    Files with several channels (BRATS, Prostate) are divided into one file a channel. The masks of
    the test part are not public.
    """

    name = "MSD"
    number = None
    title = "A task of the Medical Segmentation Decathlon"
    page = "http://medicaldecathlon.com"
    licence = "in the task's dataset.json"
    citation = "Antonelli et al., The Medical Segmentation Decathlon, Nat. Commun. 13, 4128 (2022)"
    content = "volume"
    understands: ClassVar[frozenset[str]] = frozenset({"name"})

    @property
    def dataset_name(self) -> str:
        """Name that the user chose, otherwise the task's, once its cases have been found."""
        return check_dataset_name(self.options.name or self._task_name)

    _task_name = name

    def find_cases(self, root: Path) -> list[Case]:
        """Find the files that ``dataset.json`` names.

        Raises:
            NotFoundError: There is no ``dataset.json`` of the Decathlon's form.
            DataError: It cannot be used, or there are several tasks.
        """
        folder, description = _find_task(root)
        self._describe(description, folder)
        try:
            training = [(pair["image"], pair["label"]) for pair in description["training"]]
            cases = [_case(folder, image, mask) for image, mask in training]
            cases += [_case(folder, image) for image in description.get("test", [])]
        except (KeyError, TypeError) as error:
            raise DataError(
                "the list of training or test files is not of the Decathlon's form",
                where=folder / DESCRIPTION,
                mend='it should be "training": [{"image": ..., "label": ...}], "test": [...]',
            ) from error
        return self._compare_with_folders(cases, folder)

    def _describe(self, description: dict[str, Any], folder: Path) -> None:
        try:
            names = {int(value): str(name) for value, name in description["labels"].items()}
            modality = description["modality"]
            channels = [modality[key] for key in sorted(modality, key=int)]
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(
                "labels or modality are not of the Decathlon's form",
                where=folder / DESCRIPTION,
                mend='they should be like "labels": {"0": "background", "1": "tumour"} and '
                '"modality": {"0": "CT"}',
            ) from error
        foreground = sorted(value for value in names if value)
        self.labels = {BACKGROUND: 0}
        self.labels |= {names[value]: n for n, value in enumerate(foreground, start=1)}
        self.label_values = {0: 0} | {value: self.labels[names[value]] for value in foreground}
        self.channel_names = {str(n): str(name) for n, name in enumerate(channels)}
        self._task_name = safe_id(str(description.get("name", folder.name))) or folder.name
        self.title = str(description.get("description", self.title)).strip()
        self.licence = str(description.get("licence", self.licence)).strip()
        self.page = str(description.get("reference", self.page)).strip()

    def _compare_with_folders(self, cases: list[Case], folder: Path) -> list[Case]:
        """Leave out a test part whose folder is missing; note files that are not in the list.

        Single files that are missing become problems of their cases.
        """
        training = [case for case in cases if case.part == "train"]
        used = {path.parent for case in training for path in (*case.images, *case.masks)}
        require_folders(folder, sorted(path.name for path in used if not path.is_dir()))
        if len({case.images[0].parent.is_dir() for case in cases}) > 1:
            self.notes.append("The folder of the test images is missing, so there is no test part.")
            cases = training
        listed = {path for case in cases for path in (*case.images, *case.masks)}
        parts = [path for path in subfolders(folder) if path.name in FOLDERS]
        present = [path for part in parts for path in find_images(part, ENDINGS)]
        unlisted = [path for path in present if path not in listed]
        if unlisted:
            self.left_out |= dict.fromkeys(unlisted, f"not in {DESCRIPTION}")
            names = sorted(path.relative_to(folder).as_posix() for path in unlisted)
            self.notes.append(
                f"{len(unlisted)} file(s) are not in {DESCRIPTION} and were left out: "
                f"{list_some(names)}."
            )
        return cases


def _case(folder: Path, image: str, mask: str | None = None) -> Case:
    names = [Path(name) for name in (image, mask) if name is not None]
    if any(".." in name.parts or name.is_absolute() for name in names):
        raise DataError(
            f"it names a file outside its folder: {image}",
            where=folder / DESCRIPTION,
            mend="correct the path in it",
        )
    name, paths = names[0].name, [folder / name for name in names]
    stem = next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)
    part: Part = "test" if mask is None else "train"
    return Case(safe_id(stem), tuple(paths[:1]), tuple(paths[1:]), part)


def _find_task(root: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the only task in or below ``root``, and its ``dataset.json``."""
    level = [root]
    for _ in range(LEVELS + 1):
        tasks = {path: _read(path / DESCRIPTION) for path in level}
        found = {path: content for path, content in tasks.items() if content is not None}
        if len(found) > 1:
            raise DataError(
                f"there are several tasks: {list_some(sorted(path.name for path in found))}",
                where=root,
                mend="give the folder of one of them with -i",
            )
        if found:
            return next(iter(found.items()))
        level = [inner for path in level for inner in subfolders(path)]
    raise NotFoundError(
        f"there is no {DESCRIPTION} with modality, labels and training, as every task of the "
        "Decathlon has it",
        where=root,
        mend="unpack the task's archive, and give the folder that holds dataset.json with -i; "
        "images without such a file are for nnmedseg_convert Folder",
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a task's description, None if this is another file or none."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise DataError(
            f"the file is damaged: {error}", where=path, mend="unpack the archive again"
        ) from error
    wanted = {"labels", "modality", "training"}
    return content if isinstance(content, dict) and wanted <= content.keys() else None
