"""ISIC 2018, task 1: lesion segmentation in dermoscopic images."""

from __future__ import annotations

from pathlib import Path

from nnmedseg.dataset_conversion._isic import IMAGE_NAME, MASK_NAME, SHARED_IMAGES
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import cases_in_part_folders
from nnmedseg.dataset_conversion.registry import register


@register
class ISIC2018(DatasetConverter):
    """2594 training, 100 validation and 1000 test images, one lesion each.

    The masks of validation and test were published later than the images, so they may be missing.
    The attribute masks of task 2 share the ids and are not lesion masks.
    """

    name = "ISIC2018"
    number = 2
    title = "ISIC 2018 Task 1: skin lesions in dermoscopy"
    page = "https://challenge.isic-archive.com/data/#2018"
    licence = "CC0 1.0 (ATTRIBUTION.txt of the release)"
    citation = (
        "Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368; "
        "Tschandl, Rosendahl, Kittler, The HAM10000 dataset, Sci. Data 5, 180161 (2018)"
    )

    def find_cases(self, root: Path) -> list[Case]:
        """Find the images of task 1 and 2 and the masks of task 1."""
        self.notes.append(SHARED_IMAGES)
        return cases_in_part_folders(
            root,
            {
                "train": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
                "validation": (
                    "ISIC2018_Task1-2_Validation_Input",
                    "ISIC2018_Task1_Validation_GroundTruth",
                ),
                "test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
            },
            image_name=IMAGE_NAME,
            mask_name=MASK_NAME,
        )
