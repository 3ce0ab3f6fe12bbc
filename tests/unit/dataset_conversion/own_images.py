"""A user's own images and masks, and what became of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options

from .stand_ins import HEIGHT, WIDTH, blob, grey, picture, save
from .volume_files import conversion_of

NAMES = ("a", "b", "c")


def make(source: Path, folders, images="images/*.png", masks="masks/*.png", **choices) -> Path:
    skip_broken = choices.pop("skip_broken", False)
    options = Options(images=images, masks=masks, name="Mine", **choices)
    return convert(
        "Folder",
        source,
        dataset_id=500,
        folders=folders,
        options=options,
        skip_broken=skip_broken,
    )


def write_pairs(source: Path, masks: list[np.ndarray] | None = None) -> None:
    """RGB images with masks of 0 and 255, or with those given."""
    stored = [grey(blob(n)) for n in range(3)] if masks is None else masks
    for n, (name, mask) in enumerate(zip(NAMES, stored, strict=False)):
        save(source / "images" / f"{name}.png", picture(n))
        save(source / "masks" / f"{name}.png", mask)


def label_map(seed: int, values: tuple[int, ...]) -> np.ndarray:
    """Stripes of the values, uint8."""
    stripes = np.resize(np.array(values, np.uint8), HEIGHT)
    return np.roll(np.repeat(stripes[:, None], WIDTH, axis=1), seed, axis=1)


def ids_of(made: Path) -> list[str]:
    return [case["id"] for case in conversion_of(made)["cases"]]


def label_of(made: Path, case: str, part: str = "Tr") -> np.ndarray:
    return np.asarray(Image.open(made / f"labels{part}" / f"{case}.png"))


def image_of(made: Path, case: str) -> np.ndarray:
    return np.asarray(Image.open(made / "imagesTr" / f"{case}_0000.png"))
