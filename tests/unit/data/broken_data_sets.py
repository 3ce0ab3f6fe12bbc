"""How data sets are broken, and what is to be found then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .raw_data_sets import natural_images

Break = Callable[[Path], object]

IMAGE, LABEL = "imagesTr/case_1_0000.png", "labelsTr/case_1.png"
VOLUME, VOLUME_LABEL = "imagesTr/case_1_0000.nii.gz", "labelsTr/case_1.nii.gz"
DESCRIPTION = "dataset.json"


class Broken(NamedTuple):
    """A way to break a data set, which gives a problem of this kind at this file."""

    kind: str
    file: str
    make: Callable[[Path], Path]
    break_it: Break


class BrokenDataSets(list[Broken]):
    """A list to which functions that break a data set are added."""

    def add(self, kind: str, file: str, make: Callable[[Path], Path] = natural_images):
        def register(function: Break) -> Break:
            self.append(Broken(kind, file, make, function))
            return function

        return register


def cut(path: Path, keep: float) -> None:
    """Keep only this share of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
