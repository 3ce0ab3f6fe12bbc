"""Prediction of a folder of natural images beside ``nnUNetv2_predict``, with the same weights.

    python benchmarks/inference.py --output benchmarks/results/inference.md

Both load the model folder that nnU-Net's own trainer has written after one batch: what a network
has learnt changes neither its time nor whether two programs agree. Whole commands are measured, in
turns, with all processes that they start. Volumes have a script of their own,
``inference_volume.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from PIL import Image
from process_tree import Usage, measure
from report import Report, machine
from trainings import command, require

from nnmedseg.paths import resolve

DATA = Path(__file__).parents[1] / "tests" / "data" / "ISIC2018"
SIDES = (200, 400)
"""The shorter side of the images, in pixels."""

LONGEST = 1.5
"""How many times as long the longer side may be."""

PATCH = ("256", "256")
COLUMNS = ("command", "s", "images/s", "faster", "MiB", "less memory", "other labels", "required")
TILES, WHOLE = "nnmedseg_predict", "nnmedseg_predict --whole-images"
NNUNET = "nnUNetv2_predict"
REQUIRED = {TILES: "3 x, 5 x less", WHOLE: "6 x, under 0.1 %", NNUNET: ""}


@dataclass(frozen=True)
class Contender:
    """A command that predicts a folder.

    Attributes:
        arguments: Of the command, without input and output.
        ending: Of the masks that it writes.
    """

    arguments: tuple[str, ...]
    ending: str

    def on(self, images: Path, masks: Path) -> list[str]:
        """Return the command line for a folder of images."""
        program = Path(sys.executable).with_name(self.arguments[0])
        return [str(program), "-i", str(images), "-o", str(masks), *self.arguments[1:]]


def main() -> int:
    """Make the model and the images, and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--turns", type=int, default=1, help="runs of each command (default: 1)")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    report = Report("Prediction of natural images", options.output)
    report.text(machine("cpu", 0).replace("0 thread(s)", "all threads"))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        environment = {**os.environ, **train(workspace)}
        images = make_images(workspace / "images", options.images)
        few = make_images(workspace / "few", 3)
        report.text(
            f"{options.images} photographs of {SIDES[0]} to {SIDES[1]} pixels (shorter side), "
            f"nnU-Net's U-Net on patches of {' x '.join(PATCH)}, no mirrored copies, CPU; "
            f"median of {options.turns} run(s), memory of all processes together."
        )
        compare(images, workspace, environment, options.turns, report)
        report.text("", "Start-up: from the command to the first mask of three images.")
        start_up(few, workspace, environment, max(options.turns, 3), report)
    return 0


def train(workspace: Path) -> Mapping[str, str]:
    """Train nnU-Net's trainer for one batch; return the variables by which nnU-Net finds it."""
    place = ("--workspace", workspace)
    require("convert", "ISIC2018", "-i", DATA, *place)
    plan = ("-d", "2", "-tr", "nnUNetTrainer", "-c", "2d_native")
    require("plan_and_preprocess", *plan, *place)
    budget = ("--epochs", "1", "--iterations", "1", "--batch-size", "2", "--patch-size", *PATCH)
    recipe = ("2", "2d_native", "0", "-tr", "nnUNetTrainer", *budget, "--device", "cpu")
    code, message = command("train", *recipe, *place)
    if code:
        raise SystemExit(f"nnmedseg_train failed: {message}")
    folders = resolve(workspace)
    return {
        "nnUNet_raw": str(folders.raw),
        "nnUNet_preprocessed": str(folders.preprocessed),
        "nnUNet_results": str(folders.results),
    }


def make_images(folder: Path, count: int) -> Path:
    """Write photographs of many sizes."""
    folder.mkdir()
    random = np.random.default_rng(0)
    sources = sorted(DATA.rglob("*.jpg"))
    for number in range(count):
        shorter = int(random.integers(*SIDES))
        size = [round(shorter * random.uniform(1, LONGEST)), shorter]
        with Image.open(sources[number % len(sources)]) as source:
            source.convert("RGB").resize(size).save(folder / f"image{number:03d}_0000.png")
    return folder


def contenders() -> dict[str, Contender]:
    """Return the commands, nnU-Net's last."""
    model = ("-d", "2", "-c", "2d_native", "-tr", "nnUNetTrainer", "-p", "nnUNetPlans", "-f", "0")
    ours = ("nnmedseg_predict", *model, "--disable-tta", "--device", "cpu")
    return {
        TILES: Contender(ours, ".nii.gz"),
        WHOLE: Contender((*ours, "--whole-images"), ".nii.gz"),
        NNUNET: Contender((NNUNET, *model, "--disable_tta", "-device", "cpu"), ".png"),
    }


def compare(
    images: Path, workspace: Path, environment: Mapping[str, str], turns: int, report: Report
) -> None:
    """Let each command predict the folder, in turns, and print what it took."""
    usages: dict[str, list[Usage]] = {name: [] for name in contenders()}
    masks = {name: workspace / f"masks{number}" for number, name in enumerate(usages)}
    for turn in range(turns):
        for name, contender in contenders().items():
            target = masks[name] = workspace / f"masks {name} {turn}"
            usages[name].append(measure(contender.on(images, target), environment))
    seconds = {name: statistics.median(x.seconds for x in of) for name, of in usages.items()}
    peaks = {name: statistics.median(x.peak or 0 for x in of) for name, of in usages.items()}
    count = len(list(images.iterdir()))
    report.table(COLUMNS)
    for name, contender in contenders().items():
        other = share_of_other_labels(masks[name], contender.ending, masks[NNUNET])
        report.row(
            [
                name,
                f"{seconds[name]:.1f}",
                f"{count / seconds[name]:.2f}",
                f"{seconds[NNUNET] / seconds[name]:.2f}",
                f"{peaks[name] / 2**20:.0f}",
                f"{peaks[NNUNET] / max(peaks[name], 1):.2f}",
                f"{other:.5%}",
                REQUIRED[name],
            ]
        )


def share_of_other_labels(masks: Path, ending: str, references: Path) -> float:
    """Return the share of pixels whose label is not that of nnU-Net's mask."""
    different = pixels = 0
    for reference in sorted(references.glob("*.png")):
        expected = np.array(Image.open(reference))
        path = masks / (reference.name.removesuffix(".png") + ending)
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        different += int((found.reshape(expected.shape) != expected).sum())
        pixels += expected.size
    return different / pixels


def start_up(
    images: Path, workspace: Path, environment: Mapping[str, str], turns: int, report: Report
) -> None:
    """Print how long each command takes until its first mask is there."""
    seconds: dict[str, list[float]] = {TILES: [], NNUNET: []}
    for turn in range(turns):
        for name, of in seconds.items():
            contender = contenders()[name]
            target = workspace / f"first {name} {turn}"
            of.append(seconds_to_first(contender, images, target, environment))
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    report.table(("command", "s", "share of nnU-Net's", "required"))
    for name, median in medians.items():
        required = "" if name == NNUNET else "under 0.5"
        report.row([name, f"{median:.2f}", f"{median / medians[NNUNET]:.2f}", required])


def seconds_to_first(
    contender: Contender, images: Path, target: Path, environment: Mapping[str, str]
) -> float:
    """Run a command and return when its first mask was there."""
    start = time.perf_counter()
    with subprocess.Popen(
        contender.on(images, target),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not any(target.glob(f"image*{contender.ending}")):
            if process.poll() is not None:
                raise SystemExit(f"{contender.arguments[0]} ended without a mask")
            time.sleep(0.01)
        return time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
