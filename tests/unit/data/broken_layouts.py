"""Descriptions, names, splits and lists that are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from .broken_data_sets import DESCRIPTION, IMAGE, LABEL, VOLUME, BrokenDataSets
from .raw_data_sets import (
    change_json,
    encoded,
    label,
    natural_images,
    picture,
    save,
    volumes,
)

BROKEN = BrokenDataSets()
broken = BROKEN.add


# dataset.json


@broken("no-description", DESCRIPTION)
def _(folder):
    (folder / DESCRIPTION).unlink()


@broken("bad-description", DESCRIPTION)
def _(folder):
    (folder / DESCRIPTION).write_text('{"labels": ')


@broken("bad-description", DESCRIPTION)
def _(folder):
    (folder / DESCRIPTION).write_text("[]")


@broken("bad-description", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, channel_names=["R", "G", "B"])


@broken("bad-description", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, numTraining="5")


@broken("bad-description", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, dataset={"case_0": ["image.png", "label.png"]})


LABELS_THAT_ARE_NONE = {
    "no background": {"organ": 0, "tumour": 1},
    "background is 1": {"background": 1, "organ": 0, "tumour": 2},
    "background is a region": {"background": [0], "organ": 1, "tumour": 2},
    "a gap": {"background": 0, "organ": 1, "tumour": 3},
    "Decathlon": {"0": "background", "1": "organ", "2": "tumour"},
    "a list": ["background", "organ", "tumour"],
    "no number": {"background": 0, "organ": "one", "tumour": 2},
    "nothing to learn": {"background": 0},
    "twice the same": {"background": 0, "organ": 1, "tumour": 1, "vessel": 2},
    "ignore is not the highest": {"background": 0, "ignore": 1, "tumour": 2},
    "ignore is a region": {"background": 0, "organ": 1, "tumour": 2, "ignore": [3]},
    "regions without an order": {"background": 0, "whole": [1, 2], "tumour": 2},
}


@broken("label-definition", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, labels=LABELS_THAT_ARE_NONE["a gap"])


@broken("channel-names", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, channel_names={"1": "R", "2": "G", "3": "B"})


@broken("file-ending", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, file_ending=".nii.gz")


@broken("file-ending", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, file_ending=".PNG")


@broken("file-ending", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, file_ending="png")


@broken("file-ending", DESCRIPTION, lambda folder: natural_images(folder, ".jpg"))
def _(folder):
    """nnU-Net has no reader for JPEG."""


@broken("case-count", DESCRIPTION)
def _(folder):
    change_json(folder / DESCRIPTION, numTraining=6)


# Files and names


@broken("no-cases", "imagesTr")
def _(folder):
    shutil.rmtree(folder / "imagesTr")


@broken("no-cases", "labelsTr")
def _(folder):
    shutil.rmtree(folder / "labelsTr")


@broken("missing-label", IMAGE)
def _(folder):
    (folder / LABEL).unlink()


@broken("missing-image", LABEL)
def _(folder):
    (folder / IMAGE).unlink()


@broken("missing-image", "imagesTs/test_0_0000.png")
def _(folder):
    """conversion.json names it."""
    (folder / "imagesTs" / "test_0_0000.png").unlink()
    (folder / "labelsTs" / "test_0.png").unlink()


@broken("missing-image", "elsewhere.png")
def _(folder):
    entry = {"images": ["elsewhere.png"], "label": LABEL}
    change_json(folder / DESCRIPTION, dataset={"case_1": entry}, numTraining=1)


@broken("missing-label", "elsewhere.png")
def _(folder):
    entry = {"images": [IMAGE], "label": "elsewhere.png"}
    change_json(folder / DESCRIPTION, dataset={"case_1": entry}, numTraining=1)


@broken("unlabelled-test", "imagesTs/test_0_0000.png")
def _(folder):
    (folder / "labelsTs" / "test_0.png").unlink()


@broken("channel-files", "imagesTr/case_1.png")
def _(folder):
    (folder / IMAGE).rename(folder / "imagesTr" / "case_1.png")


@broken("channel-files", "imagesTr/case_1_0001.nii.gz", volumes)
def _(folder):
    (folder / VOLUME).unlink()


@broken("channel-count", VOLUME, volumes)
def _(folder):
    (folder / "imagesTr" / "case_1_0001.nii.gz").unlink()


@broken("hidden-file", "imagesTr/._case_1_0000.png")
def _(folder):
    (folder / "imagesTr" / "._case_1_0000.png").write_bytes(b"\0\5\x16\7")


@broken("superfluous", "imagesTr/notes.txt")
def _(folder):
    (folder / "imagesTr" / "notes.txt").write_text("seen by two readers")


@broken("superfluous", "labelsTr/case_1.jpg")
def _(folder):
    (folder / "labelsTr" / "case_1.jpg").write_bytes(encoded("JPEG", label()))


@broken("superfluous", "imagesTr/more")
def _(folder):
    (folder / "imagesTr" / "more").mkdir()


@broken("superfluous", "imagesTs/late_0000.png")
def _(folder):
    """conversion.json does not name it."""
    save(picture(99), folder / "imagesTs" / "late_0000.png")


@broken("case-id", "imagesTr/case_1_0000.png")
def _(folder):
    for name in ("imagesTr/{}_0000.png", "labelsTr/{}.png"):
        shutil.copy(folder / name.format("case_1"), folder / name.format("CASE_1"))


@broken("case-id", "imagesTr/a:b_0000.png")
def _(folder):
    (folder / IMAGE).rename(folder / "imagesTr" / "a:b_0000.png")


@broken("case-name", "imagesTr/case (1)_0000.png")
def _(folder):
    (folder / IMAGE).rename(folder / "imagesTr" / "case (1)_0000.png")
    (folder / LABEL).rename(folder / "labelsTr" / "case (1).png")


# Splits and conversion


def change_folds(folder: Path, change: Callable[[list], object]) -> None:
    path = folder / "splits_final.json"
    folds = json.loads(path.read_text())
    change(folds)
    path.write_text(json.dumps(folds))


@broken("bad-split", "splits_final.json")
def _(folder):
    (folder / "splits_final.json").write_text("{")


@broken("bad-split", "splits_final.json")
def _(folder):
    (folder / "splits_final.json").write_text('{"train": [], "val": []}')


@broken("bad-split", "splits_final.json")
def _(folder):
    change_folds(folder, lambda folds: folds[0].pop("val"))


@broken("bad-split", "splits_final.json")
def _(folder):
    change_folds(folder, lambda folds: folds[0]["val"].clear())


@broken("split-case", "splits_final.json")
def _(folder):
    change_folds(folder, lambda folds: folds[0]["train"].append("case_9"))


@broken("split-overlap", "splits_final.json")
def _(folder):
    change_folds(folder, lambda folds: folds[0]["train"].append("case_0"))


@broken("split-unused", "splits_final.json")
def _(folder):
    kept = [{"train": ["case_0", "case_1"], "val": ["case_2"]}]
    change_folds(folder, lambda folds: folds.__setitem__(slice(None), kept))


@broken("split-unused", "splits_final.json")
def _(folder):
    """As for data sets with too few cases for folds."""
    (folder / "splits_final.json").write_text("[]")


@broken("bad-conversion", "conversion.json")
def _(folder):
    (folder / "conversion.json").write_text('{"cases": [{"id": "case_0"}]}')
