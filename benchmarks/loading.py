"""How many samples a core prepares in our data loader and in nnU-Net's, on the same data.

Photographs are preprocessed once. Both loaders read them with nnU-Net's transforms and the same
random numbers, in turns, in one process and with one thread: nnU-Net's from our store of bytes, and
from the files that nnU-Net itself would have written. The first lines say how far the batches of
equal random numbers are apart, and whether statistics of samples of other random numbers agree.

    python benchmarks/loading.py [--images FOLDER] [--working-size 512] [--turns 15]
        [--output benchmarks/results/loading.md]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RATIO_COLUMNS, Report, machine
from timing import clock_name

import nnmedseg
from nnmedseg.files import read_json
from nnmedseg.nnunet import captured_output
from nnmedseg.paths import Folders, resolve

logger = logging.getLogger(__name__)

DATA = Path(__file__).parents[1] / "tests" / "data" / "ISIC2018"
PATCHES = ((512, 512), (256, 256))
BATCH_SIZE = 8
BATCHES_IN_A_TURN = 3
SAMPLES_FOR_STATISTICS = 1200
GOAL = 1.5
STATISTICS = ("mean", "standard deviation", "share of foreground")
Loader = Any


def prepare(images: Path, working_size: int, workspace: Path) -> Folders:
    """Convert and preprocess photographs for nnU-Net's own trainer."""
    folders = resolve(workspace)
    nnmedseg.convert("ISIC2018", images, folders=folders)
    nnmedseg.plan_and_preprocess(
        2,
        trainers=["nnUNetTrainer"],
        configurations=["2d"],
        working_size=working_size,
        folders=folders,
    )
    return folders


class Loaders:
    """Makes loaders of the preprocessed photographs.

    Args:
        folders: Of the workspace.
        copies: An empty folder for the same cases in nnU-Net's own format.
    """

    def __init__(self, folders: Folders, copies: Path):
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # noqa: PLC0415
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

        from nnmedseg.nnunet.dataset import MedSegDataset  # noqa: PLC0415 - needs the folders

        base = folders.preprocessed / folders.dataset_name(2)
        plans = PlansManager(str(base / "nnUNetPlans.json"))
        self._labels = plans.get_label_manager(read_json(base / "dataset.json"))
        ours = MedSegDataset(str(base / plans.get_configuration("2d").data_identifier))
        for case in ours.identifiers:
            data, labels, _, properties = ours.load_case(case)
            properties["class_locations"] = {
                key: np.asarray(found[:]) for key, found in properties["class_locations"].items()
            }
            with captured_output(logger):
                nnUNetDatasetBlosc2.save_case(data[:], labels[:], properties, str(copies / case))
        self._datasets = {"bytes": ours, "blosc2": nnUNetDatasetBlosc2(str(copies))}

    def make(self, kind: str, patch: tuple[int, int]) -> Loader:
        """Return ``"ours"``, ``"nnU-Net"`` or ``"nnU-Net, blosc2"`` with nnU-Net's transforms."""
        from nnunetv2.training.data_augmentation.compute_initial_patch_size import (  # noqa: PLC0415
            get_patch_size,
        )
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader  # noqa: PLC0415
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: PLC0415

        from nnmedseg.training.sample_loader import SampleLoader  # noqa: PLC0415

        rotation = (-np.pi, np.pi)
        return (SampleLoader if kind == "ours" else nnUNetDataLoader)(
            self._datasets["blosc2" if kind.endswith("blosc2") else "bytes"],
            BATCH_SIZE,
            get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25)),
            patch,
            self._labels,
            oversample_foreground_percent=1 / 3,
            transforms=nnUNetTrainer.get_training_transforms(
                patch, rotation, None, (0, 1), False, use_mask_for_norm=[False] * 3
            ),
        )


def seed_with(number: int) -> None:
    """Set the generators that the loaders draw from."""
    np.random.seed(number)  # noqa: NPY002 - nnU-Net's
    torch.manual_seed(number)


def differences(ours: Loader, peer: Loader, batches: int = 6) -> tuple[float, float]:
    """Return the largest difference of intensities, and the share of labels that differ."""
    largest, wrong = 0.0, []
    for number in range(batches):
        pair = []
        for loader in (ours, peer):
            seed_with(number)
            pair.append(next(loader))
        one, other = pair
        largest = max(largest, float((one["data"] - other["data"]).abs().max()))
        wrong.append(float((one["target"] != other["target"]).float().mean()))
    return largest, statistics.mean(wrong)


def statistics_of(loader: Loader, seed: int) -> torch.Tensor:
    """Return `STATISTICS` of many samples ``(3, N)``."""
    seed_with(seed)
    found = []
    for _ in range(SAMPLES_FOR_STATISTICS // BATCH_SIZE):
        batch = next(loader)
        image, foreground = batch["data"].flatten(1), (batch["target"] > 0).float().flatten(1)
        found.append(torch.stack([image.mean(1), image.std(1), foreground.mean(1)]))
    return torch.cat(found, 1)


def distances(ours: Loader, peer: Loader) -> list[float]:
    """Return how many standard errors the means of `STATISTICS` are apart."""
    one, other = statistics_of(ours, 1), statistics_of(peer, 2)
    error = (one.var(1) / one.shape[1] + other.var(1) / other.shape[1]).sqrt()
    return ((one.mean(1) - other.mean(1)).abs() / error).tolist()


def rates(
    loaders: dict[str, Loader], turns: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return samples per second of each, and how many times as many ours makes, as medians."""
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(-1, turns):
        for name, loader in loaders.items():
            seed_with(turn + 1)  # each does the same work
            start = clock()
            for _ in range(BATCHES_IN_A_TURN):
                next(loader)
            if turn >= 0:
                seconds[name].append(clock() - start)
    samples = BATCHES_IN_A_TURN * BATCH_SIZE
    ratios = {
        name: statistics.median(
            peer / ours for peer, ours in zip(times, seconds["ours"], strict=True)
        )
        for name, times in seconds.items()
    }
    return {name: samples / statistics.median(times) for name, times in seconds.items()}, ratios


def measure(loaders: Loaders, patch: tuple[int, int], turns: int, report: Report) -> None:
    """Compare the loaders at one patch size."""
    made = {kind: loaders.make(kind, patch) for kind in ("ours", "nnU-Net", "nnU-Net, blosc2")}
    largest, wrong = differences(made["ours"], made["nnU-Net"])
    apart = distances(made["ours"], made["nnU-Net"])
    measured, ratios = rates(made, turns, getattr(time, clock_name("cpu", 1)))
    heading = f"Patches of {patch[0]} x {patch[1]}"
    report.table(
        RATIO_COLUMNS,
        heading,
        [
            f"Equal random numbers: intensities differ by at most {largest:.1e}, "
            f"{wrong:.1e} of the labels differ.",
            f"Others, {SAMPLES_FOR_STATISTICS} samples: "
            + ", ".join(
                f"{name} {distance:.1f} standard errors apart"
                for name, distance in zip(STATISTICS, apart, strict=True)
            )
            + ".",
            f"Median ratio of {turns} turns: "
            + ", ".join(f"{ratios[peer]:.2f} to {peer}" for peer in list(made)[1:])
            + ".",
        ],
    )
    for peer in list(made)[1:]:
        report.ratio(
            "samples per core",
            peer,
            (measured["ours"], measured[peer]),
            "1/s",
            GOAL if peer == "nnU-Net" else None,
        )


def main() -> None:
    """Print how many samples per second each loader prepares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=DATA, help="a folder in ISIC 2018's layout")
    parser.add_argument("--working-size", type=int, default=512)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("Loading", options.output)
    report.text(
        machine("cpu", 1),
        f"Photographs with a shorter side of {options.working_size}, batches of {BATCH_SIZE}, "
        "nnU-Net's transforms; time of the processor.",
    )
    with tempfile.TemporaryDirectory() as workspace, tempfile.TemporaryDirectory() as copies:
        folders = prepare(options.images, options.working_size, Path(workspace))
        loaders = Loaders(folders, Path(copies))
        for patch in PATCHES:
            measure(loaders, patch, options.turns, report)
    report.summary()


if __name__ == "__main__":
    main()
