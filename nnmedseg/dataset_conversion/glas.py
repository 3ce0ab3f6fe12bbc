"""GlaS (Warwick-QU): glands in histology of the colon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnmedseg.dataset_conversion._side_files import file_stem, find_beside, read_table
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_images_by_name,
    pair_by_name,
    require_folders,
)
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError

IMAGE_NAME = r"(?P<id>(?:train|testA|testB)_\d+)"
MASK_NAME = IMAGE_NAME + "_anno"
TABLE = "Grade.csv"
PATIENT = "patient id"
SUBSETS = {"testa": "testA", "testb": "testB"}


@register
class GlaS(DatasetConverter):
    """85 training images, 60 of test set A and 20 of test set B, of 16 patients.

    The masks number the glands of an image; here they are all one label. ``Grade.csv`` tells the
    patients, who are kept apart in the folds.
    """

    name = "GlaS"
    number = 13
    title = "GlaS: glands in histology of the colon"
    page = "https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/"
    licence = "research only, no commercial use; cite both papers"
    citation = (
        "Sirinukunwattana et al., Gland segmentation in colon histology images: The GlaS challenge "
        "contest, Med. Image Anal. 35, 489-502 (2017); Sirinukunwattana, Snead, Rajpoot, A "
        "Stochastic Polygons Model for Glandular Structures in Colon Histology Images, IEEE Trans. "
        "Med. Imaging 34, 2366-2378 (2015)"
    )
    labels: Mapping[str, int] = {"background": 0, "gland": 1}
    label_values: Mapping[int, int] = {0: 0} | dict.fromkeys(range(1, 256), 1)

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and annotations by their names, and the patients."""
        images = find_images_by_name(root, IMAGE_NAME)
        masks = find_images_by_name(root, MASK_NAME)
        missing = [] if images or masks else ["the one with train_1.bmp and train_1_anno.bmp"]
        require_folders(root, missing)
        patients = self._patients((images or masks)[0].parent)
        cases = [
            _placed(case, patients.get(case.id.casefold()))
            for case in pair_by_name(
                images, masks, part="train", image_name=IMAGE_NAME, mask_name=MASK_NAME
            )
        ]
        self.notes += _notes_on_patients(cases)
        return cases

    def _patients(self, folder: Path) -> dict[str, str]:
        """Return the patient of each case by its id in lower case, as far as the table tells."""
        table = find_beside(folder, TABLE)
        try:
            rows = read_table(table) if table else []
        except DataError as error:
            self.notes.append(f"{TABLE} is not used: {error.what}")
            rows = []
        return {
            file_stem(row["name"]).casefold(): f"patient_{row[PATIENT]}"
            for row in rows
            if row.get("name") and row.get(PATIENT)
        }


def _placed(case: Case, patient: str | None) -> Case:
    """Return a case with its part, its test set and its patient."""
    subset = SUBSETS.get(case.id.partition("_")[0].casefold())
    return replace(case, part="test" if subset else "train", subset=subset, group=patient)


def _notes_on_patients(cases: Sequence[Case]) -> list[str]:
    notes = []
    unknown = sum(case.group is None for case in cases)
    if unknown:
        notes.append(
            f"{TABLE} does not tell the patients of {unknown} of {len(cases)} images: images of "
            "one patient fall into different folds"
        )
    return notes
