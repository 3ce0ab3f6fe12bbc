"""Several masks of one image, and cases that belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Case, DatasetConverter

IMAGES = "ISIC2018_Task1-2_{}_Input"
MASKS = "ISIC2018_Task1_{}_GroundTruth"
GROUPED_IDS = ["ISIC_0000000", "ISIC_0000188"]


def read_json(path: Path):
    return json.loads(path.read_text("utf-8"))


class United(DatasetConverter):
    """The ISIC files as a data set of which one case has two masks and two cases one patient."""

    name = "United"
    number = 900
    title = page = licence = citation = "for tests"
    unites_masks = True

    def find_cases(self, root: Path) -> list[Case]:
        masks = {path.name[:12]: path for path in root.glob("*Training_GroundTruth/*.png")}
        images = sorted(root.glob("*Training_Input/*.jpg"))
        return [
            Case(
                path.stem,
                (path,),
                (masks[path.stem], root / "second.png")
                if path.stem == "ISIC_0000000"
                else (masks[path.stem],),
                group="one" if path.stem in GROUPED_IDS else None,
            )
            for path in images
        ]


@pytest.fixture
def united(monkeypatch):
    from nnmedseg.dataset_conversion import _raw_dataset

    monkeypatch.setattr(_raw_dataset, "find_converter", lambda name, options: United(options))


def test_masks_of_one_image_are_united_and_groups_kept_together(download, folders, united):
    first = download / MASKS.format("Training") / "ISIC_0000000_segmentation.png"
    second = np.zeros_like(np.asarray(Image.open(first)))
    second[:9] = 200
    second[9] = 255
    Image.fromarray(second).save(download / "second.png")
    made = convert("United", download, folders=folders)
    label = np.asarray(Image.open(made / "labelsTr" / "ISIC_0000000.png"))
    assert np.array_equal(label == 1, (np.asarray(Image.open(first)) > 0) | (second > 0))
    record = read_json(made / "conversion.json")["cases"][0]
    assert record["in_between_pixels"] == 9 * second.shape[1]
    for fold in read_json(made / "splits_final.json"):
        assert len(set(GROUPED_IDS) & set(fold["val"])) in (0, 2)
