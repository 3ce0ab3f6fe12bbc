"""nnU-Net's environment variables, set before its first import where the user has not set them.

nnU-Net reads ``nnUNet_def_n_proc`` when it is imported and freezes it into default arguments; its
own defaults (8 and 12 processes) ignore how many cores the process may use.
"""

from __future__ import annotations

import os
from pathlib import Path

from nnmedseg.cores import cpu_count

BRIDGE_FOLDER = Path(__file__).parent / "bridge"
MOST_AUGMENTATION_WORKERS = 12


def prepare(augmentation_workers: int | None = None) -> None:
    """Set nnU-Net's variables: where our trainers are and how many processes it may start.

    Args:
        augmentation_workers: Data-loading processes for training; ``None`` keeps the user's
            variable or takes one a core, at most 12.
    """
    os.environ["nnUNet_extTrainer"] = external_trainers()
    os.environ.setdefault("nnUNet_def_n_proc", str(cpu_count()))
    if augmentation_workers is not None:
        os.environ["nnUNet_n_proc_DA"] = str(augmentation_workers)
    # PyTorch's threads wait for each other by spinning, for milliseconds, which starves the data
    # loaders and whoever else works on the machine: with one core taken, a training step took 15
    # times as long. Spinning for some ten microseconds costs 8 % on a quiet machine and leaves 5
    # times. Read when PyTorch is first imported; meaningful to GNU's OpenMP only.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    default = min(cpu_count(), MOST_AUGMENTATION_WORKERS)
    os.environ.setdefault("nnUNet_n_proc_DA", str(default))


def external_trainers() -> str:
    """Return the value for ``nnUNet_extTrainer``: our bridge, and what the user already had."""
    present = os.environ.get("nnUNet_extTrainer", "")
    others = [entry for entry in present.split(os.pathsep) if entry]
    bridge = str(BRIDGE_FOLDER)
    return os.pathsep.join([bridge, *(entry for entry in others if entry != bridge)])
