"""CVC-ColonDB: polyps in colonoscopy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnmedseg.dataset_conversion._layouts import IMAGES_AND_MASKS, Layout, take_one_place
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.registry import register

ONE_FOLDER = Layout(
    "one folder with N.tiff and pN.tiff (or .bmp)",
    image_name=r"(?P<id>\d+)",
    mask_name=r"p(?P<id>\d+)",
    identifies=True,
)


@register
class CVCColonDB(DatasetConverter):
    """380 frames (300 in the first version) of some fifteen sequences.

    In one folder, ``p1.tiff`` is the polyp in ``1.tiff``; the contours ``cp1.tiff`` (``c1.bmp`` in
    the first version) and the regions without information ``s1.bmp`` are not used. PNG files in
    ``images`` and ``masks`` go round as well.
    """

    name = "CVC-ColonDB"
    number = 10
    title = "CVC-ColonDB: polyps in colonoscopy"
    page = "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/"
    licence = "for research, with citation; see the page for the terms"
    citation = (
        "Bernal, Sanchez, Vilarino, Towards automatic polyp detection with a polyp appearance "
        "model, Pattern Recognition 45, 3166-3182 (2012)"
    )
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and masks in any of the forms."""
        place, notes = take_one_place(root, (ONE_FOLDER, IMAGES_AND_MASKS), r".*colondb.*")
        self.notes += [
            *notes,
            "The sequences of the frames are not listed: frames of one sequence fall into "
            "different folds unless they are near-duplicates",
            "CVC-300 is of the same sequences: do not train on one and test on the other",
        ]
        return place.cases
