"""CVC-ClinicDB (CVC-612): polyps in colonoscopy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnmedseg.dataset_conversion._layouts import IMAGES_AND_MASKS, Layout, take_one_place
from nnmedseg.dataset_conversion._side_files import file_stem, find_beside, read_table
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.registry import register

ORIGINAL = Layout("Original and Ground Truth", ("Original",), ("Ground Truth",), identifies=True)


@register
class CVCClinicDB(DatasetConverter):
    """612 frames of 29 sequences.

    The original is TIFF; a release with PNG files in folders of the same names goes round as well,
    alone or beside it. Its table of sequences, ``metadata.csv``, keeps frames of one sequence
    together.
    """

    name = "CVC-ClinicDB"
    number = 9
    title = "CVC-ClinicDB: polyps in colonoscopy"
    page = "https://polyp.grand-challenge.org/CVCClinicDB/"
    licence = "for research, with citation; see the page for the terms"
    citation = (
        "Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy: Validation "
        "vs. saliency maps from physicians, Comput. Med. Imaging Graph. 43, 99-111 (2015)"
    )
    labels: Mapping[str, int] = {"background": 0, "polyp": 1}

    def find_cases(self, root: Path) -> list[Case]:
        """Find images and masks in either form, and the sequences if they are listed."""
        place, notes = take_one_place(root, (ORIGINAL, IMAGES_AND_MASKS), r".*(clinic|612).*")
        self.notes += notes
        table = find_beside(place.folder, "metadata.csv")
        sequences = _sequences(read_table(table)) if table else {}
        cases = [replace(case, group=sequences.get(case.id)) for case in place.cases]
        self.notes += _notes_on_sequences(cases)
        return cases


def _sequences(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the sequence of each frame by its name, as far as the table tells."""
    columns = rows[0] if rows else {}
    sequence = next((column for column in columns if "sequence" in column), None)
    frames = [column for column in columns if column.endswith("image_path")]
    frame = next(iter(frames), "frame_id")
    if sequence is None or frame not in columns:
        return {}
    return {file_stem(row[frame]): f"sequence_{row[sequence]}" for row in rows if row[sequence]}


def _notes_on_sequences(cases: Sequence[Case]) -> list[str]:
    unknown = sum(case.group is None for case in cases)
    if not unknown:
        return []
    which = "all frames" if unknown == len(cases) else f"{unknown} of {len(cases)} frames"
    return [
        f"No metadata.csv tells the sequence of {which}: frames of one sequence fall into "
        "different folds unless they are near-duplicates"
    ]
