"""ISIC 2017, part 1: lesion segmentation in dermoscopic images."""

from __future__ import annotations

from pathlib import Path

from nnmedseg.dataset_conversion._isic import IMAGE_NAME, MASK_NAME, SHARED_IMAGES
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import cases_in_part_folders
from nnmedseg.dataset_conversion.registry import register


@register
class ISIC2017(DatasetConverter):
    """2000 training, 150 validation and 600 test images, one lesion each.

    The folders of the images hold a superpixel image of each case and a CSV file as well. The
    ground truth of parts 2 and 3 is not about segmentation.
    """

    name = "ISIC2017"
    number = 3
    title = "ISIC 2017 Part 1: skin lesions in dermoscopy"
    page = "https://challenge.isic-archive.com/data/#2017"
    licence = "see the page"
    citation = (
        "Codella et al., Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 "
        "International Symposium on Biomedical Imaging (ISBI), arXiv:1710.05006"
    )

    def find_cases(self, root: Path) -> list[Case]:
        """Find the images and the masks of part 1."""
        self.notes.append(SHARED_IMAGES)
        return cases_in_part_folders(
            root,
            {
                "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
                "validation": (
                    "ISIC-2017_Validation_Data",
                    "ISIC-2017_Validation_Part1_GroundTruth",
                ),
                "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
            },
            image_name=IMAGE_NAME,
            mask_name=MASK_NAME,
        )
