"""BUSI: lesions in ultrasound images of the breast."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_images_by_name,
    pair_by_name,
    require_folders,
)
from nnmedseg.dataset_conversion.registry import register

IMAGE_NAME = r"(?P<id>(?:{}) ?\(\d+\))"
MASK_NAME = IMAGE_NAME + r"_mask(?:_\d+)?"


@register
class BUSI(DatasetConverter):
    """437 benign and 210 malignant lesions, and 133 images without one.

    An image may have several masks, one for each lesion; their union is meant.
    """

    name = "BUSI"
    number = 8
    title = "BUSI: breast lesions in ultrasound"
    page = "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset"
    licence = "see the page (the paper on the data is CC BY)"
    citation = (
        "Al-Dhabyani, Gomaa, Khaled, Fahmy, Dataset of breast ultrasound images, Data in Brief 28, "
        "104863 (2020)"
    )
    unites_masks = True
    understands = frozenset({"include"})
    includes: ClassVar[Mapping[str, str]] = {"normal": "the images without a lesion"}

    def find_cases(self, root: Path) -> list[Case]:
        """Find the images of the classes that are asked for, and all masks of each."""
        cases = _cases_of("benign|malignant", root)
        require_folders(root, [] if cases else ["those with benign (1).png, malignant (1).png"])
        normal = _cases_of("normal", root)
        if "normal" in self.options.include:
            require_folders(root, [] if normal else ["the one with normal (1).png"])
            cases += normal
        elif normal:
            files = (path for case in normal for path in (*case.images, *case.masks))
            self.left_out |= dict.fromkeys(files, "without a lesion; --include normal converts it")
            self.notes.append(
                f"{len(normal)} images without a lesion are left out (--include normal converts "
                "them too)"
            )
        self.notes.append(
            "The release is known for images that are there twice, even in both classes, and does "
            "not say which images are of one patient (Pawlowska et al., Data in Brief 48, 2023)"
        )
        return cases


def _cases_of(classes: str, root: Path) -> list[Case]:
    image_name, mask_name = IMAGE_NAME.format(classes), MASK_NAME.format(classes)
    return pair_by_name(
        find_images_by_name(root, image_name),
        find_images_by_name(root, mask_name),
        part="train",
        image_name=image_name,
        mask_name=mask_name,
    )
