"""Does every trainer learn a few images by heart?

    python benchmarks/overfitting.py --output benchmarks/results/overfitting.md

Each trainer trains and validates on the same few images without augmentation (fold ``all``), as its
users would start it, until the given number of batches is over. What cannot learn a few images has
a fault in its network, loss, optimiser or data. Logs are kept beside the table.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from report import Report, machine
from trainings import (
    add_network_options,
    made_small,
    network_options,
    replace_networks,
    require,
    train,
    trainer_names,
    training_images,
)

from nnmedseg.cores import thread_count

DATA = Path(__file__).parents[1] / "tests" / "data" / "ISIC2018"
DATASET = "Dataset002_ISIC2018"
REQUIRED_DICE = 0.95
COLUMNS = (
    "trainer",
    "batches",
    "first loss",
    "last loss",
    "Dice",
    f"above {REQUIRED_DICE}",
    "s",
)


def losses(fold: Path) -> tuple[float, float]:
    """Return the training loss of the first and of the last epoch."""
    with (fold / "log.csv").open(newline="") as file:
        values = [float(row["train_loss"]) for row in csv.DictReader(file)]
    return values[0], values[-1]


def starting_weights(options: argparse.Namespace) -> str:
    """Return what the networks start from, in words."""
    if options.encoder_weights == "none":
        return "random weights"
    return f"encoder weights of {Path(options.encoder_weights).name}"


def main() -> int:
    """Train each trainer, and tell what it has learnt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainers", nargs="+", help="default: all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=30, help="batches in an epoch")
    parser.add_argument("--working-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder-weights", default="none", help="see nnmedseg_train --help")
    add_network_options(parser)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    names = options.trainers or trainer_names()
    report = Report("Trainers on a few images that they may learn by heart", options.output)
    report.text(machine(options.device, thread_count()))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        require("convert", "ISIC2018", "-i", DATA, "--workspace", workspace)
        report.text(
            f"{training_images(workspace)} photographs of ISIC 2018, shorter side "
            f"{options.working_size} pixels, {options.epochs * options.iterations} batches of "
            f"{options.batch_size} without augmentation, {starting_weights(options)}, recipe 2d."
        )
        plan = ("-d", "2", "--working-size", str(options.working_size), "-tr", *names)
        require("plan_and_preprocess", *plan, "--workspace", workspace)
        small = replace_networks(workspace, DATASET, network_options(options))
        if small:
            report.text(made_small(small))
        report.table(COLUMNS)
        for name in names:
            failures += not overfits(name, workspace, options, report)
    return int(failures > 0)


def overfits(name: str, workspace: Path, options: argparse.Namespace, report: Report) -> bool:
    """Train one trainer, add its row, and tell whether it has learnt the images."""
    batches = options.epochs * options.iterations
    folder = options.output.parent if options.output else workspace
    settings = {
        "--epochs": options.epochs,
        "--iterations": options.iterations,
        "--batch-size": options.batch_size,
        "--encoder-weights": options.encoder_weights,
        "--device": options.device,
        "--seed": 0,
    }
    arguments = [
        "2",
        "2d",
        "all",
        "-tr",
        name,
        *(str(x) for pair in settings.items() for x in pair),
    ]
    if name != "nnUNetTrainer":
        arguments += ["--augmentation", "none"]
    training = train(workspace, arguments, folder / "overfitting_logs" / f"{name}.log")
    if training.fold is None:
        report.row([name, str(batches), "-", "-", "-", "NO", training.message[:60]])
        return False
    first, last = losses(training.fold)
    dice = training.summary["foreground_mean"]["Dice"]
    reached = dice > REQUIRED_DICE
    report.row(
        [
            name,
            str(batches),
            f"{first:.3f}",
            f"{last:.3f}",
            f"{dice:.4f}",
            "yes" if reached else "NO",
            f"{training.seconds:.0f}",
        ]
    )
    return reached


if __name__ == "__main__":
    raise SystemExit(main())
