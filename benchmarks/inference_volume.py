"""From logits of a volume to its labels, beside nnU-Net's own export.

Each side runs in processes of its own, by the plans that nnU-Net makes for CT, once where the
network saw the volume at its own size and once where it saw two thirds of it (1.5 mm of 1 mm):

* nnU-Net: ``convert_predicted_logits_to_segmentation_with_correct_shape`` of all logits;
* ours: ``Reduction``, which is given the logits in slabs as they leave a network.

Logits are float16, smooth over 16 voxels and rough by a tenth of a logit; the first class leads by
some. It prints medians over the turns of the seconds, without reading the logits from their file
and after a few slices that are not counted, and of the most memory that the process held, then how
far the labels are from each other. A process that needs more memory than ``--memory`` fails; then
both are measured on half of the slices, until nnU-Net's fits.

    python benchmarks/inference_volume.py [--classes 9] [--shape 200 512 512]
        [--from-shape Z Y X] [--turns 3] [--threads 2] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from report import LIMIT_COLUMNS, RATIO_COLUMNS, Report, machine

from nnmedseg.cores import cpu_count

SPEED, MEMORY = 5, 2
"""How many times faster, and with how many times less memory, ours has to be."""
LEAST_DICE = 0.999
OUT_OF_MEMORY = 3


@dataclass(frozen=True)
class Volume:
    """What is measured.

    Attributes:
        classes: Number of them.
        seen: Size (z, y, x) that the network saw.
        shape: Size of the volume.
    """

    classes: int
    seen: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def form(self) -> str:
        """How tables name it."""
        sizes = (" x ".join(map(str, reversed(size))) for size in (self.seen, self.shape))
        seen, shape = sizes
        return f"{self.classes} classes, {shape}" + ("" if seen == shape else f" from {seen}")

    def halved(self) -> Volume:
        """Return one with half of the slices."""
        seen, shape = ((-(-size[0] // 2), *size[1:]) for size in (self.seen, self.shape))
        return replace(self, seen=seen, shape=shape)


@dataclass(frozen=True)
class Bench:
    """Where and how the processes run.

    Attributes:
        folder: For logits and labels.
        threads: Of each process.
        memory: Bytes of address space that a process may have.
        turns: Runs of each side.
    """

    folder: Path
    threads: int
    memory: int
    turns: int

    def run(self, side: str, volume: Volume) -> dict[str, float] | None:
        """Run one side once.

        Returns:
            ``seconds`` and ``peak`` in bytes, or ``None`` if the memory was not enough.

        Raises:
            subprocess.CalledProcessError: It failed for another reason.
        """
        script = Path(__file__).with_name("inference_volume_pass.py")
        given = {
            "side": side,
            "folder": str(self.folder),
            "threads": self.threads,
            "memory": self.memory,
            "classes": volume.classes,
            "seen": volume.seen,
            "shape": volume.shape,
        }
        command = [sys.executable, str(script), json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == OUT_OF_MEMORY:
            return None
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)
        return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(bench: Bench, volume: Volume) -> tuple[float, float]:
    """Return the share of voxels with another label, and the smallest Dice of a class."""
    ours, theirs = (np.load(bench.folder / f"{side}.npy") for side in ("ours", "nnunet"))
    counts = np.zeros((volume.classes, volume.classes), np.int64)
    for a, b in zip(ours, theirs, strict=True):
        pairs = a.astype(np.int64).ravel() * volume.classes + b.ravel()
        counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
    sizes = counts.sum(0) + counts.sum(1)
    dice = 2 * np.diagonal(counts)[sizes > 0] / sizes[sizes > 0]
    return 1 - np.trace(counts) / counts.sum(), float(dice.min())


def report_volume(report: Report, bench: Bench, volume: Volume) -> bool:
    """Measure one volume, and print it; say whether nnU-Net's export had memory enough."""
    bench.run("logits", volume)
    runs = {side: [bench.run(side, volume)] for side in ("ours", "nnunet")}
    if None in runs["nnunet"]:
        bound = f"more than the {bench.memory / 2**30:g} GiB that a process may have"
        report.text("", f"nnU-Net's export of {volume.form} needs {bound}.")
        ours = runs["ours"][0]
        spent = "too much as well"
        if ours is not None:
            spent = f"{ours['seconds']:.3g} s and at most {ours['peak'] / 2**20:.0f} MiB"
        report.text(f"Ours takes {spent}.")
        return False
    for _ in range(bench.turns - 1):
        for side, done in runs.items():
            done.append(bench.run(side, volume))

    def medians(key: str, unit: float) -> tuple[float, float]:
        ours, theirs = (
            statistics.median(one[key] / unit for one in done if one is not None)
            for done in runs.values()
        )
        return ours, theirs

    report.table(RATIO_COLUMNS)
    report.ratio("export", volume.form, medians("seconds", 1), "s", SPEED)
    report.ratio("peak memory", volume.form, medians("peak", 2**20), "MiB", MEMORY)
    different, dice = compare(bench, volume)
    report.table(LIMIT_COLUMNS)
    if volume.seen == volume.shape:
        report.limit("voxels with another label", volume.form, 100 * different, "%", 0)
    else:
        report.limit("1 - smallest Dice", volume.form, 1 - dice, "", 1 - LEAST_DICE)
        report.notes([f"{100 * different:.3g} % of the voxels have another label."])
    return True


def report_until_it_fits(report: Report, bench: Bench, volume: Volume) -> None:
    """Measure a volume, and if nnU-Net's export needs too much memory smaller ones."""
    while not report_volume(report, bench, volume) and volume.shape[0] > 1:
        volume = volume.halved()


def _two_thirds(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(round(side / 1.5) for side in shape)


def main() -> None:
    """Print the tables, and which required figures are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    axes = ("Z", "Y", "X")
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--shape", type=int, nargs=3, metavar=axes, default=[200, 512, 512])
    seen_help = "size that the network saw (default: the same, and two thirds)"
    parser.add_argument("--from-shape", type=int, nargs=3, metavar=axes, help=seen_help)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--memory", type=float, default=16, help="GiB that a process may have")
    parser.add_argument("--scratch", type=Path, help="folder for logits and labels")
    parser.add_argument("--output", type=Path, help="Markdown file to keep the tables in")
    options = parser.parse_args()
    report = Report("From logits to labels beside nnU-Net", options.output)
    report.text(f"{machine('cpu', options.threads)}; medians of {options.turns} turn(s).")
    shape = tuple(options.shape)
    seen = [tuple(options.from_shape)] if options.from_shape else [shape, _two_thirds(shape)]
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        memory = int(options.memory * 2**30)
        bench = Bench(Path(folder), options.threads, memory, options.turns)
        for one in seen:
            report_until_it_fits(report, bench, Volume(options.classes, one, shape))
    report.summary()


if __name__ == "__main__":
    main()
