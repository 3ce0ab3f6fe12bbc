"""ISIC 2016, part 1: lesion segmentation in dermoscopic images."""

from __future__ import annotations

import re
from pathlib import Path

from nnmedseg.dataset_conversion._isic import IMAGE_NAME, MASK_NAME, SHARED_IMAGES
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    cases_in_part_folders,
    find_images,
    folders_by_level,
)
from nnmedseg.dataset_conversion.registry import register


@register
class ISIC2016(DatasetConverter):
    """900 training and 379 test images, one lesion each.

    The images of the other parts of the challenge are the same. The usual names of the folders of
    images are not documented by the release, so others that name year and part are accepted.
    """

    name = "ISIC2016"
    number = 4
    title = "ISIC 2016 Part 1: skin lesions in dermoscopy"
    page = "https://challenge.isic-archive.com/data/#2016"
    licence = "CC0 1.0 as listed on the page"
    citation = (
        "Gutman et al., Skin Lesion Analysis toward Melanoma Detection: A Challenge at the "
        "International Symposium on Biomedical Imaging (ISBI) 2016, arXiv:1605.01397"
    )

    def find_cases(self, root: Path) -> list[Case]:
        """Find the images and the masks of part 1."""
        self.notes.append(SHARED_IMAGES)
        masks = "ISBI2016_ISIC_Part1_{}_GroundTruth"
        return cases_in_part_folders(
            root,
            {
                "train": (_folder_of_images(root, "Training"), masks.format("Training")),
                "test": (_folder_of_images(root, "Test"), masks.format("Test")),
            },
            image_name=IMAGE_NAME,
            mask_name=MASK_NAME,
        )


def _folder_of_images(root: Path, part: str) -> str:
    """Return the usual name, or that of another folder of 2016 that holds images of the part."""
    usual = f"ISBI2016_ISIC_Part1_{part}_Data"
    folders = [folder for level in folders_by_level(root) for folder in level]
    names = {
        folder.name
        for folder in folders
        if re.search(f"2016.*{part}", folder.name, re.IGNORECASE)
        and any(re.fullmatch(IMAGE_NAME, path.stem, re.IGNORECASE) for path in find_images(folder))
    }
    if usual.casefold() in {name.casefold() for name in names} or not names:
        return usual
    return min(names)
