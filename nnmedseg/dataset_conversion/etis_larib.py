"""ETIS-LaribPolypDB: small polyps in colonoscopy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnmedseg.dataset_conversion._layouts import IMAGES_AND_MASKS, Layout, take_one_place
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.registry import register

ORIGINAL = Layout(
    "ETIS-LaribPolypDB and Ground Truth",
    ("ETIS-LaribPolypDB", "Original", "images"),
    ("Ground Truth", "masks"),
    image_name=r"(?P<id>\d+)",
    mask_name=r"p(?P<id>\d+)",
    identifies=True,
)


@register
class ETISLaribPolypDB(DatasetConverter):
    """196 frames, many with polyps of less than a hundredth of the image.

    In the original, which is TIFF, ``p1.tif`` is the mask of ``1.tif``. PNG files of equal names in
    ``images`` and ``masks`` go round as well.
    """

    name = "ETIS-LaribPolypDB"
    number = 12
    title = "ETIS-LaribPolypDB: small polyps in colonoscopy"
    page = "https://polyp.grand-challenge.org/EtisLarib/"
    licence = "for research, with citation; see the page for the terms"
    citation = (
        "Silva, Histace, Romain, Dray, Granado, Toward embedded detection of polyps in WCE images "
        "for early diagnosis of colorectal cancer, Int. J. Comput. Assist. Radiol. Surg. 9, "
        "283-293 (2014)"
    )
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and masks in either form."""
        place, notes = take_one_place(root, (ORIGINAL, IMAGES_AND_MASKS), r".*(etis|larib).*")
        self.notes += [
            *notes,
            "The sequences of the frames are not listed: frames of one sequence fall into "
            "different folds unless they are near-duplicates",
        ]
        return place.cases
