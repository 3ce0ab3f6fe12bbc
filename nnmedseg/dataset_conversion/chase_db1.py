"""CHASE_DB1: vessels of the retina."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_images_by_name,
    pair_by_name,
    require_folders,
)
from nnmedseg.dataset_conversion.registry import register

IMAGE_NAME = r"(?P<id>Image_\d+[LR])"
MASK_NAME = IMAGE_NAME + "_1stHO"


@register
class CHASEDB1(DatasetConverter):
    """28 images, both eyes of 14 children, which stay in one fold.

    The masks are those of the first observer. Those of the second (``_2ndHO``) are not used.
    """

    name = "CHASE_DB1"
    number = 16
    title = "CHASE_DB1: vessels of the retina"
    page = "https://researchdata.kingston.ac.uk/96/"
    licence = "see the page (often given as CC BY 4.0)"
    citation = (
        "Fraz et al., An Ensemble Classification-Based Approach Applied to Retinal Blood Vessel "
        "Segmentation, IEEE Trans. Biomed. Eng. 59, 2538-2548 (2012)"
    )
    labels: Mapping[str, int] = {"background": 0, "vessel": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and the first observer's masks by their names."""
        images = find_images_by_name(root, IMAGE_NAME)
        masks = find_images_by_name(root, MASK_NAME)
        missing = [] if images or masks else ["the one with Image_01L.jpg and Image_01L_1stHO.png"]
        require_folders(root, missing)
        cases = pair_by_name(
            images, masks, part="train", image_name=IMAGE_NAME, mask_name=MASK_NAME
        )
        return [replace(case, group=f"child_{case.id[6:-1]}") for case in cases]
