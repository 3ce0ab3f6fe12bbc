"""The trainers as a table, for people."""

from __future__ import annotations

import inspect

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.trainers import available_trainers, default_plans_name
from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.weights import starts_from_pretrained

HEADINGS = ("TRAINER", "NETWORK", "PLANS", "STARTS FROM", "WHAT")


def describe_trainers() -> list[str]:
    """Return the lines of a table of all trainers, nnU-Net's own last."""
    rows = [HEADINGS, *map(_row, (*available_trainers(), nnUNetTrainer))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(trainer: type[nnUNetTrainer]) -> tuple[str, ...]:
    network = trainer.network_name if issubclass(trainer, MedSegTrainer) else None
    if trainer is nnUNetTrainer:
        what = "nnU-Net's own U-Net and recipe, the row to compare with"
    else:
        what = (inspect.getdoc(trainer) or "").partition("\n")[0]
    return (
        trainer.__name__,
        network or "-",
        default_plans_name(trainer),
        _start(network),
        what,
    )


def _start(network: str | None) -> str:
    if network is None or not starts_from_pretrained(network):
        return "random"
    return "pretrained"
