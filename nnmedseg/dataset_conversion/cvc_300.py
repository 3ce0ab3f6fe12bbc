"""CVC-300: polyps in colonoscopy, a part of CVC-EndoSceneStill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnmedseg.dataset_conversion._layouts import IMAGES_AND_MASKS, Layout, take_one_place
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.registry import register

ENDOSCENE = Layout("bbdd and gtpolyp", ("bbdd", "images"), ("gtpolyp",))


@register
class CVC300(DatasetConverter):
    """60 images in the form of the polyp papers, 300 as a part of CVC-EndoSceneStill.

    The papers' form has PNG files in ``images`` and ``masks``. EndoScene has a folder of masks for
    each class, of which only the polyp is used; its official parts are not, because the releases
    that go round differ in how they list them.
    """

    name = "CVC-300"
    number = 11
    title = "CVC-300: polyps in colonoscopy"
    page = "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/"
    licence = "for research, with citation; see the page for the terms"
    citation = (
        "Vazquez et al., A Benchmark for Endoluminal Scene Segmentation of Colonoscopy Images, "
        "J. Healthc. Eng. 2017, 4037190; Fan et al., PraNet, MICCAI 2020 (the 60 test images)"
    )
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and masks in either form."""
        place, notes = take_one_place(root, (ENDOSCENE, IMAGES_AND_MASKS), r"cvc[ _-]?300.*")
        self.notes += [
            *notes,
            "The images are of the sequences of CVC-ColonDB: do not train on one and test on the "
            "other",
            "Frames of one sequence fall into different folds unless they are near-duplicates",
        ]
        return place.cases
