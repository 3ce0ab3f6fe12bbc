"""Kvasir-SEG: polyps in colonoscopy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnmedseg.dataset_conversion._layouts import IMAGES_AND_MASKS, take_one_place
from nnmedseg.dataset_conversion._side_files import find_beside, parts_by_lists
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Part
from nnmedseg.dataset_conversion.registry import register

LISTS: Mapping[Part, str] = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
FOLDERS_OF_LISTS = ("data-split", "data-splits")


@register
class KvasirSEG(DatasetConverter):
    """1000 images with one polyp or more, masks as JPEG.

    The authors' lists of 880 training and 120 validation images, ``train.txt`` and ``val.txt``, are
    used when they lie in the folder or beside it. Without them all images are for training.
    """

    name = "Kvasir-SEG"
    number = 6
    title = "Kvasir-SEG: polyps in colonoscopy"
    page = "https://datasets.simula.no/kvasir-seg/"
    licence = "research and education only; commercial use needs written permission"
    citation = (
        "Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MultiMedia Modeling (MMM) 2020, 451-462"
    )
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}
    known_as = r"kvasir([ _-]?seg)?"

    def find_cases(self, root: Path) -> list[Case]:
        """Find ``images`` and ``masks``, and the lists."""
        place, notes = take_one_place(root, (IMAGES_AND_MASKS,), self.known_as)
        self.notes += notes
        lists = {
            part: path
            for part, name in LISTS.items()
            if (path := find_beside(place.folder, name, FOLDERS_OF_LISTS)) is not None
        }
        cases, notes = parts_by_lists(place.cases, lists)
        self.notes += notes
        if not lists:
            self.notes.append("Without train.txt and val.txt all images are for training")
        self.notes.append(
            "Several images may show the same polyp, and the release does not say which: frames of "
            "one polyp fall into different folds unless they are near-duplicates"
        )
        return cases
