"""All trainers on one data set: the same split, resolution, augmentation and number of batches.

    python benchmarks/same_budget.py Kvasir-SEG --number 6 --source FOLDER --workspace FOLDER

A short budget on a few images ranks nothing; the table shows that every trainer learns under the
same conditions, and what an epoch of each costs. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from report import Report, machine
from trainings import Training, require, train, trainer_names

from nnmedseg.cores import thread_count

COLUMNS = (
    "trainer",
    "parameters",
    "patch",
    "Dice",
    "std",
    "IoU",
    "training s",
    "peak MiB",
)


def main() -> int:
    """Convert, plan, train each trainer, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="name of a data set that nnmedseg_convert knows")
    parser.add_argument("--source", type=Path, required=True, help="its download")
    parser.add_argument("--number", required=True, help="its number")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--trainers", nargs="+", help="default: all")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=20, help="batches in an epoch")
    parser.add_argument("--working-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--encoder-weights", default="none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    names = options.trainers or trainer_names()
    report = Report(f"All trainers on {options.dataset}, same budget", options.output)
    report.text(machine(options.device, thread_count()))
    report.text(
        f"Fold {options.fold}, shorter side {options.working_size} pixels, {options.epochs} epochs "
        f"of {options.iterations} batches of {options.batch_size}, recipe 2d, seed 0, encoder "
        f"weights: {options.encoder_weights}. Dice and IoU are means over the held-out images, std "
        "the standard deviation of their Dice."
    )
    report.table(COLUMNS)
    workspace = ("--workspace", options.workspace)
    require("convert", options.dataset, "-i", options.source, *workspace)
    plan = ("-d", options.number, "--working-size", str(options.working_size), "-tr", *names)
    require("plan_and_preprocess", *plan, *workspace)
    failed = [name for name in names if not add_row(name, options, report)]
    return int(bool(failed))


def add_row(name: str, options: argparse.Namespace, report: Report) -> bool:
    """Train one trainer and add its row; tell whether it was trained."""
    settings = {
        "--epochs": options.epochs,
        "--iterations": options.iterations,
        "--batch-size": options.batch_size,
        "--encoder-weights": options.encoder_weights,
        "--device": options.device,
        "--seed": 0,
    }
    arguments = [options.number, "2d", options.fold, "-tr", name]
    arguments += [str(part) for pair in settings.items() for part in pair]
    training = train(options.workspace, arguments, options.workspace / "logs" / f"{name}.log")
    if training.fold is None:
        report.row([name, "-", "-", "-", "-", "-", f"{training.seconds:.0f}", "-"])
        report.notes([f"{name}: {training.message}"])
        return False
    report.row([name, *figures(training)])
    return True


def figures(training: Training) -> list[str]:
    """Return the cells of a training."""
    metrics = [case["metrics"]["1"] for case in training.summary["metric_per_case"]]
    dice = np.array([case["Dice"] for case in metrics])
    iou = np.array([case["IoU"] for case in metrics])
    record = training.record
    return [
        f"{record['parameters'] / 1e6:.2f} M",
        "x".join(map(str, record["plan"]["patch_size"])),
        f"{np.nanmean(dice):.3f}",
        f"{np.nanstd(dice):.3f}",
        f"{np.nanmean(iou):.3f}",
        f"{record['wall_seconds']:.0f}",
        f"{record['peak_memory_bytes'] / 2**20:.0f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
