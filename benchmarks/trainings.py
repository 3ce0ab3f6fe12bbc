"""Trainings by the commands that users type, and what they leave behind."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.nnunet import prepare


@dataclass(frozen=True)
class Training:
    """A training that has ended.

    Attributes:
        fold: The fold's folder, or ``None`` where the command failed.
        seconds: Of the command, validation included.
        message: The last line that it has printed.
    """

    fold: Path | None
    seconds: float
    message: str

    @property
    def summary(self) -> dict[str, Any]:
        """The validation's summary."""
        if self.fold is None:
            raise ValueError(f"the training failed: {self.message}")
        return json.loads((self.fold / "validation" / "summary.json").read_text())

    @property
    def record(self) -> dict[str, Any]:
        """The run's record."""
        if self.fold is None:
            raise ValueError(f"the training failed: {self.message}")
        return json.loads((self.fold / "run.json").read_text())


def program(module: str) -> Path:
    """Return the installed command."""
    return Path(sys.executable).with_name(f"nnmedseg_{module}")


def command(module: str, *arguments: str | Path, log: Path | None = None) -> tuple[int, str]:
    """Run an installed command; return its exit code and the last line that it has printed."""
    ran = subprocess.run(
        [program(module), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(ran.stdout)
    lines = [line for line in ran.stdout.splitlines() if line.strip()]
    return ran.returncode, lines[-1] if lines else ""


def require(module: str, *arguments: str | Path) -> None:
    """Run one of our commands that must succeed."""
    code, message = command(module, *arguments)
    if code:
        raise SystemExit(f"nnmedseg_{module} failed: {message}")


def train(workspace: Path, arguments: Sequence[str], log: Path) -> Training:
    """Train with ``nnmedseg_train``; the log keeps what it has printed, but for the workspace."""
    begin = time.monotonic()
    code, message = command("train", *arguments, "--workspace", workspace, log=log)
    seconds = time.monotonic() - begin
    log.write_text(log.read_text().replace(str(workspace), "WORKSPACE"))
    fold = Path(message.removeprefix("Model: ")) if code == 0 else None
    return Training(fold, seconds, message)


def training_images(workspace: Path) -> int:
    """Return how many images the data sets of a workspace have for training."""
    return len(list((workspace / "raw").glob("*/imagesTr/*")))


def trainer_names() -> list[str]:
    """Return the papers' trainers and nnU-Net's own, first stages and oracles left out."""
    prepare()
    from nnmedseg.trainers import NNUNET_TRAINER, papers_trainers  # noqa: PLC0415 - after prepare

    first = {getattr(trainer, "first_stage", None) for trainer in papers_trainers()}
    names = [trainer.__name__ for trainer in papers_trainers() if trainer not in first]
    return [*names, NNUNET_TRAINER]


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--network-options",
        type=Path,
        help="JSON file of other options by network, for networks too large for this machine",
    )


def network_options(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Return what the file of network options holds, nothing without one."""
    return json.loads(options.network_options.read_text()) if options.network_options else {}


def made_small(networks: Sequence[str]) -> str:
    """Return the sentence that says so."""
    return f"Networks made small: {', '.join(networks)}."


def replace_networks(
    workspace: Path, dataset: str, options: dict[str, dict[str, object]]
) -> list[str]:
    """Write other options of networks into the plans; return the networks that have them now."""
    replaced = []
    for path in (workspace / "preprocessed" / dataset).glob("*Plans.json"):
        plans = json.loads(path.read_text())
        for configuration in plans["configurations"].values():
            arguments = configuration.get("architecture", {}).get("arch_kwargs", {})
            if arguments.get("network") in options:
                arguments.update(options[arguments["network"]])
                replaced.append(arguments["network"])
        path.write_text(json.dumps(plans))
    return sorted(set(replaced))
