"""Trainings by every trainer that are killed at random moments, gone on with, and predicted from.

    python benchmarks/killed_trainings.py --output benchmarks/results/killed_trainings.md

Each trainer trains in both configurations, first without a break, then again with ``kill -9`` of
the process and the same command after it, and must end with the same losses; the model then
predicts the images that no training has seen. Few images and a few batches: what is shown is that
nothing is lost, not how well anything segments.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from report import Report, machine
from trainings import (
    add_network_options,
    command,
    made_small,
    network_options,
    program,
    replace_networks,
    require,
    trainer_names,
    training_images,
)

from nnmedseg.cores import thread_count

DATA = Path(__file__).parents[1] / "tests" / "data" / "ISIC2018"
DATASET = "Dataset002_ISIC2018"
PROMPTED = "ProMISePromptTrainer"
CONFIGURATIONS = ("2d", "2d_paper")
COLUMNS = (
    "trainer",
    "configuration",
    "kills",
    "epochs repeated",
    "first loss",
    "last loss",
    "same losses",
    "masks",
    "s",
)


@dataclass(frozen=True)
class Run:
    """One trainer by one configuration.

    Attributes:
        trainer: Its name.
        configuration: Of its plans.
        workspace: With the planned data set.
        epochs: Of the training; of each stage, where there are two.
        iterations: Batches in an epoch.
    """

    trainer: str
    configuration: str
    workspace: Path
    epochs: int
    iterations: int

    def train(self) -> list[str]:
        """Return the command's arguments."""
        settings = {
            "--epochs": self.epochs,
            "--iterations": self.iterations,
            "--batch-size": 2,
            "--encoder-weights": "none",
            "--device": "cpu",
            "--seed": 0,
            "--workspace": self.workspace,
        }
        named = [str(part) for pair in settings.items() for part in pair]
        return ["2", self.configuration, "0", "-tr", self.trainer, *named]

    def models(self) -> list[Path]:
        """Return the model folders that there are of it, those of a first stage included."""
        results = self.workspace / "results" / DATASET
        stages = {self.trainer, self.trainer.replace("Trainer", "Stage1Trainer")}
        return [
            path
            for stage in sorted(stages)
            for path in results.glob(f"{stage}__*__{self.configuration}")
        ]

    def forget(self) -> None:
        """Delete what has been trained."""
        for model in self.models():
            shutil.rmtree(model)

    def losses(self) -> dict[str, list[str]]:
        """Return the training losses of each model, as they stand in its log."""
        found = {}
        for model in self.models():
            with (model / "fold_0" / "log.csv").open(newline="") as file:
                found[model.name] = [row["train_loss"] for row in csv.DictReader(file)]
        return found


def finished_epochs(run: Run) -> int:
    """Return how many epochs stand in the logs of a run that may be going on."""
    logs = [model / "fold_0" / "log.csv" for model in run.models()]
    return sum(max(0, len(log.read_text().splitlines()) - 1) for log in logs if log.is_file())


def start(run: Run, log: Path) -> subprocess.Popen[bytes]:
    """Start the training; what it prints is added to the log."""
    with log.open("a") as output:
        return subprocess.Popen(
            [program("train"), *run.train()], stdout=output, stderr=subprocess.STDOUT
        )


def killed(run: Run, seconds: float, log: Path) -> bool:
    """Train until another epoch is finished and some seconds more, then kill; tell whether it was.

    Args:
        run: The training.
        seconds: Between the end of the epoch and the kill.
        log: What the command prints is added to it.
    """
    before = finished_epochs(run)
    process = start(run, log)
    while process.poll() is None and finished_epochs(run) == before:
        time.sleep(0.05)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def predicted(run: Run) -> int:
    """Predict the test images with the model; return how many masks there are."""
    dataset = run.workspace / "raw" / DATASET
    output = run.workspace / "masks"
    shutil.rmtree(output, ignore_errors=True)
    model = next(path for path in run.models() if path.name.startswith(f"{run.trainer}__"))
    arguments = ["-i", dataset / "imagesTs", "-o", output, "-m", model, "-f", "0"]
    if run.trainer == PROMPTED:
        arguments += ["--prompts-from", dataset / "labelsTs"]
    code, message = command("predict", *arguments, "--device", "cpu")
    if code:
        print(message, file=sys.stderr)
    return len(list(output.glob("*.nii.gz")))


def add_row(run: Run, kills: int, logs: Path, report: Report) -> bool:
    """Train twice, predict, add the row; tell whether nothing was lost."""
    begin = time.monotonic()
    log = logs / f"{run.trainer}_{run.configuration}.log"
    code, message = command("train", *run.train(), log=log)
    if code:
        report.row([run.trainer, run.configuration, "-", "-", "-", "-", "NO", message[:60], "-"])
        return False
    whole = run.losses()
    seconds = (time.monotonic() - begin) / sum(map(len, whole.values()))
    run.forget()
    log.write_text("")
    struck = sum(killed(run, random.uniform(0, seconds), log) for _ in range(kills))
    start(run, log).wait()
    went_on = run.losses()
    printed = log.read_text()
    first, last = (whole[min(whole, key=len)][end] for end in (0, -1))
    masks = predicted(run)
    report.row(
        [
            run.trainer,
            run.configuration,
            str(struck),
            str(repeated_epochs(printed, whole)),
            f"{float(first):.4f}",
            f"{float(last):.4f}",
            "yes" if went_on == whole else "NO",
            str(masks),
            f"{time.monotonic() - begin:.0f}",
        ]
    )
    run.forget()
    return went_on == whole and masks > 0


def repeated_epochs(printed: str, whole: dict[str, list[str]]) -> int:
    """Return how many epochs were trained more than once, by what the commands have printed."""
    finished = sum(line.startswith("Epoch ") for line in printed.splitlines())
    return finished - sum(map(len, whole.values()))


def describe(
    images: int, small: Sequence[str], options: argparse.Namespace, report: Report
) -> None:
    """Print the conditions and begin the table."""
    report.text(
        f"{images} photographs of ISIC 2018, shorter side {options.working_size} pixels in 2d, "
        f"{options.epochs} epochs of {options.iterations} batches of 2, random weights."
    )
    if small:
        report.text(made_small(small))
    report.table(COLUMNS)


def main() -> int:
    """Train, kill, go on, predict, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainers", nargs="+", help="default: all")
    parser.add_argument("--configurations", nargs="+", default=CONFIGURATIONS)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=2, help="batches in an epoch")
    parser.add_argument("--working-size", type=int, default=64)
    parser.add_argument("--kills", type=int, default=2, help="of each training")
    add_network_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    random.seed(options.seed)
    names = options.trainers or trainer_names()
    report = Report("Trainings that are killed and gone on with", options.output)
    report.text(machine("cpu", thread_count()))
    replaced = network_options(options)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        common = ("--workspace", workspace)
        require("convert", "ISIC2018", "-i", DATA, *common)
        describe(training_images(workspace), list(replaced), options, report)
        plan = ("-d", "2", "--working-size", str(options.working_size), "-tr", *names)
        require("plan_and_preprocess", *plan, "-c", *options.configurations, *common)
        replace_networks(workspace, DATASET, replaced)
        logs = workspace / "logs"
        logs.mkdir()
        lost = 0
        for name in names:
            for configuration in options.configurations:
                if name != "nnUNetTrainer" or configuration == "2d":
                    run = Run(name, configuration, workspace, options.epochs, options.iterations)
                    lost += not add_row(run, options.kills, logs, report)
    return int(lost > 0)


if __name__ == "__main__":
    raise SystemExit(main())
