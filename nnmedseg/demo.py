"""The main job on a few real images: convert, plan, train, predict, evaluate, draw."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

import nnmedseg
from nnmedseg.data.images import read_image
from nnmedseg.evaluation.metrics import overlap, read_labels
from nnmedseg.evaluation.overlay import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    contact_sheet,
    draw_outline,
)
from nnmedseg.files import atomic_path
from nnmedseg.paths import Folders, resolve

logger = logging.getLogger(__name__)

DATASET = 2
TRAINER = "RoSPERTrainer"
WORKING_SIZE = 64  # at which two CPU cores make a training step in about a second
BATCH_SIZE = 6
SCHEDULE = {"epochs": 7, "iterations": 20}
STEPS = SCHEDULE["epochs"] * SCHEDULE["iterations"]
SEED = 2018

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DemoResult:
    """What the demo found on the images it had not trained on.

    Attributes:
        dice: Mean Dice of the trained network.
        all_foreground: Mean Dice of calling every pixel lesion.
        centred_ellipse: Mean Dice of the centred ellipse that fits the training masks best.
        overview: Picture of all predictions.
        seconds: Wall time of everything.
    """

    dice: float
    all_foreground: float
    centred_ellipse: float
    overview: Path
    seconds: float


def run(workspace: str | Path, device: str | None = None) -> DemoResult:
    """Run the demo in a folder of its own, so that the user's own data sets are not touched.

    Args:
        workspace: Folder for everything that the demo writes.
        device: Where to train (default: the best device there is).
    """
    start = time.monotonic()
    folders = resolve(workspace)
    with as_file(files("nnmedseg") / "demo_data" / "ISIC2018") as source:
        raw = nnmedseg.convert("ISIC2018", source, folders=folders)
    nnmedseg.plan_and_preprocess(
        DATASET, trainers=[TRAINER], working_size=WORKING_SIZE, folders=folders
    )
    fold = nnmedseg.train(
        DATASET,
        "2d",
        "all",
        trainer=TRAINER,
        batch_size=BATCH_SIZE,
        recipe=SCHEDULE,
        seed=SEED,
        device=device,
        folders=folders,
    )
    masks = Path(workspace) / "masks"
    nnmedseg.predict(raw / "imagesTs", masks, fold.parent, folds=["all"], device=device, png=True)
    means = nnmedseg.evaluate(masks, raw / "labelsTs")
    references = _read_masks(raw / "labelsTs")
    ellipse = _fit_ellipse(list(_read_masks(raw / "labelsTr").values()))
    return DemoResult(
        dice=means["labels"][1]["dice"],
        all_foreground=_mean_dice(references, dict.fromkeys(references, (9.0, 9.0))),
        centred_ellipse=_mean_dice(references, dict.fromkeys(references, ellipse)),
        overview=_draw(raw, masks, references, folders),
        seconds=time.monotonic() - start,
    )


def _read_masks(folder: Path) -> dict[str, Mask]:
    return {path.stem: read_labels(path)[0] == 1 for path in sorted(folder.glob("*.png"))}


def _ellipse(shape: tuple[int, ...], axes: tuple[float, float]) -> Mask:
    """Return a centred ellipse; ``axes`` are shares of the height and width of the image."""
    rows = np.linspace(-1, 1, shape[0])[:, None] / axes[0]
    columns = np.linspace(-1, 1, shape[1])[None] / axes[1]
    return rows**2 + columns**2 <= 1


def _dice(prediction: Mask, reference: Mask) -> float:
    return overlap(prediction.astype(np.uint8), reference.astype(np.uint8), 1).dice


def _mean_dice(references: dict[str, Mask], axes: dict[str, tuple[float, float]]) -> float:
    scores = [_dice(_ellipse(mask.shape, axes[name]), mask) for name, mask in references.items()]
    return float(np.mean(scores))


def _fit_ellipse(masks: list[Mask]) -> tuple[float, float]:
    """Return the axes of the centred ellipse with the best mean Dice on these masks."""
    shares = np.arange(0.3, 1.25, 0.05)
    candidates = [(float(height), float(width)) for height in shares for width in shares]
    small = [mask[::4, ::4] for mask in masks]
    return max(
        candidates, key=lambda axes: sum(_dice(_ellipse(mask.shape, axes), mask) for mask in small)
    )


def _draw(raw: Path, masks: Path, references: dict[str, Mask], folders: Folders) -> Path:
    """Write an overlay for each image and one picture of all of them."""
    overlays = folders.results.parent / "overlays"
    pictures, captions = [], []
    for name, reference in references.items():
        prediction = read_labels(masks / f"{name}.png")[0] == 1
        image = read_image(raw / "imagesTs" / f"{name}_0000.png").astype(np.uint8)
        drawn = draw_outline(image, reference, REFERENCE_COLOUR)
        drawn = draw_outline(drawn, prediction, PREDICTION_COLOUR)
        pictures.append(drawn)
        captions.append(f"{name}  Dice {_dice(prediction, reference):.3f}")
        _save(contact_sheet([drawn], [captions[-1]], 1, (484, 424)), overlays / f"{name}.png")
    overview = overlays / "overview.png"
    _save(contact_sheet(pictures, captions), overview)
    return overview


def _save(picture: object, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary)  # type: ignore[attr-defined]
