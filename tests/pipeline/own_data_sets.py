"""Data sets in nnU-Net's raw format with images of one's own making."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from nnmedseg.files import read_json
from nnmedseg.paths import Folders, resolve

NUMBER = 900
NAME = f"Dataset{NUMBER}_Own"


@dataclass(frozen=True)
class OwnDataSet:
    """A raw data set in a workspace of its own."""

    folders: Folders

    @property
    def preprocessed(self) -> Path:
        return self.folders.preprocessed / NAME

    def configuration(self, plans: str = "nnUNetPlans", name: str = "2d") -> dict:
        return read_json(self.preprocessed / f"{plans}.json")["configurations"][name]


def colours(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Coarse random colours ``(H, W)`` or ``(H, W, C)``, of 8 bits."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(1, 255, (4, 6, channels), dtype=np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 6 // width
    picture = coarse[rows][:, columns]
    return picture[..., 0] if channels == 1 else picture


def block(height: int, width: int) -> np.ndarray:
    """A mask ``(H, W)`` whose middle quarter is 1."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return mask


def make(
    root: Path, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], ending: str = ".png"
) -> OwnDataSet:
    """Write a data set; channels beyond the third have files of their own, as in nnU-Net."""
    folders = resolve(root)
    folder = folders.raw / NAME
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        stem = f"case_{number:02d}"
        if image.ndim == 3 and image.shape[2] > 3:
            for channel in range(image.shape[2]):
                path = folder / "imagesTr" / f"{stem}_{channel:04d}{ending}"
                _write(path, image[..., channel])
        else:
            _write(folder / "imagesTr" / f"{stem}_0000{ending}", image)
        _write(folder / "labelsTr" / f"{stem}{ending}", mask)
    channels = images[0].shape[2] if images[0].ndim == 3 else 1
    description = {
        "channel_names": {str(channel): f"channel {channel}" for channel in range(channels)},
        "labels": {"background": 0, "organ": 1},
        "numTraining": len(images),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return OwnDataSet(folders)


def _write(path: Path, pixels: np.ndarray) -> None:
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
