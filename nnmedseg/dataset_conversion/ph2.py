"""PH2: dermoscopic images of melanocytic lesions."""

from __future__ import annotations

from pathlib import Path

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_images_by_name,
    pair_by_name,
    require_folders,
)
from nnmedseg.dataset_conversion.registry import register

IMAGE_NAME = r"(?P<id>IMD\d+)"
MASK_NAME = r"(?P<id>IMD\d+)_lesion"


@register
class PH2(DatasetConverter):
    """200 images, one lesion each; each case has folders of its own.

    The regions of colours (``IMD002_R1_Label4``) are not the lesion. BMP files are the release's:
    copies of masks as JPEG may lie beside them.
    """

    name = "PH2"
    number = 5
    title = "PH2: skin lesions in dermoscopy"
    page = "https://www.fc.up.pt/addi/ph2%20database.html"
    licence = "free for research and benchmarking; see the page for the terms"
    citation = (
        "Mendonca, Ferreira, Marques, Marcal, Rozeira, PH2 - A dermoscopic image database for "
        "research and benchmarking, EMBC 2013, 5437-5440"
    )

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and lesions by their names."""
        endings = (".bmp",) if find_images_by_name(root, MASK_NAME, (".bmp",)) else IMAGE_ENDINGS
        cases = pair_by_name(
            find_images_by_name(root, IMAGE_NAME, endings),
            find_images_by_name(root, MASK_NAME, endings),
            part="train",
            image_name=IMAGE_NAME,
            mask_name=MASK_NAME,
        )
        require_folders(root, [] if cases else ["those with IMD002.bmp and IMD002_lesion.bmp"])
        return cases
