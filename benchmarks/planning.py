"""Predicted memory beside measured memory, and the time that planning takes.

    python benchmarks/planning.py [--only cpu] [--output benchmarks/results/planning.md]

What is measured, for every registered network, nnU-Net's `PlainConvUNet` and a network of timm that
the project does not have, with two images a step:

- ``cpu``: in float32, the bytes that a forward pass keeps for the backward pass, and the peak of a
  whole step (forward, nnU-Net's loss, backward, AdamW), predicted on ``meta`` and measured in a
  real step, as tensors that are alive. For comparison what PyTorch's allocator gives out, which
  includes what the CPU's kernels take for themselves.
- ``gpu``, where there is one: the peak of a step in mixed precision beside
  `torch.cuda.max_memory_allocated`. The allowance for CUDA's context, which that does not count, is
  left out of the prediction.
- ``time``: seconds to choose patch and batch of every registered network for one data set.

How to read it: a ratio is predicted over measured; 1.00 is right, 1.10 a tenth too much.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from network_pass import PEER
from report import LIMIT_COLUMNS, Report, machine
from training_memory import (
    CHANNELS,
    FOREIGN,
    Case,
    Patch,
    Step,
    allocated_bytes,
    allocated_on_cuda,
    attempted,
    live_bytes,
    measured_saved_bytes,
    predicted_bytes,
    predicted_saved_bytes,
)

from nnmedseg.networks import get_network_class, list_networks
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.planners.memory import TrainingMemory, measure_training_memory
from nnmedseg.planners.patches import choose_patch_and_batch

MEBIBYTE = 2**20
LARGEST_DEVIATION = 10.0  # percent
LONGEST_PLANNING = 60.0  # seconds

CPU_PATCHES: list[Patch] = [(64, 64), (96, 160), (256, 192)]
GPU_PATCHES: list[Patch] = [(256, 256), (384, 576), (512, 768)]
IMAGE, IMAGES = (512.0, 768.0), 1000  # of the data set that is planned for

CPU_COLUMNS = (
    "network",
    "patch",
    "saved, predicted MiB",
    "measured MiB",
    "ratio",
    "step, predicted MiB",
    "alive MiB",
    "ratio",
    "allocated MiB",
)
GPU_COLUMNS = ("network", "patch", "predicted MiB", "measured MiB", "ratio")
TIME_COLUMNS = ("network", "patch", "batch", "predicted GiB", "measurements", "seconds")


def cases(names: list[str], *, on_cpu: bool) -> list[Case]:
    """The networks; SAM at half its size on a CPU, where it would take minutes."""
    found = [
        Case(name, {"sam_size": 512} if on_cpu and name.startswith("promise_") else {})
        for name in names
        if name not in {PEER, FOREIGN}
    ]
    return found + [Case(name) for name in (PEER, FOREIGN) if name in names]


class Deviations:
    """The largest deviation of each table, for the summary."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def compare(self, table: str, predicted: int | str, measured: int | str) -> list[str]:
        """Cells for what was measured and the ratio; a failure is one that is not within 10 %."""
        if isinstance(predicted, str) or isinstance(measured, str):
            self.largest[table] = float("inf")
            return [_mebibytes(measured), "-"]
        ratio = predicted / measured
        self.largest[table] = max(self.largest.get(table, 0.0), 100 * abs(ratio - 1))
        return [_mebibytes(measured), f"{ratio:.3f}"]


def on_cpu(report: Report, options: argparse.Namespace, deviations: Deviations) -> None:
    """Rows of predicted and real passes and steps in float32."""
    report.table(CPU_COLUMNS, "Predicted on meta, measured on a CPU in float32")
    for case in cases(options.networks, on_cpu=True):
        for patch in options.patches or CPU_PATCHES:
            step = attempted(Step, case, patch, "cpu")
            saved = attempted(predicted_saved_bytes, case, patch)
            peak = attempted(partial(predicted_bytes, mixed_precision=False), case, patch)
            cells = [case.title, f"{patch[0]}x{patch[1]}", _mebibytes(saved)]
            measured = [
                step if isinstance(step, str) else attempted(measure, step)
                for measure in (measured_saved_bytes, live_bytes, allocated_bytes)
            ]
            cells += deviations.compare("saved bytes, CPU", saved, measured[0])
            cells.append(_mebibytes(peak))
            cells += deviations.compare("peak of tensors, CPU", peak, measured[1])
            cells.append(_mebibytes(measured[2]))
            report.row(cells)


def on_gpu(report: Report, options: argparse.Namespace, deviations: Deviations) -> None:
    """Rows of predicted and real steps in mixed precision."""
    report.table(GPU_COLUMNS, f"Mixed precision on {torch.cuda.get_device_name()}")
    torch.backends.cudnn.benchmark = True  # as nnU-Net sets it
    for case in cases(options.networks, on_cpu=False):
        for patch in options.patches or GPU_PATCHES:
            peak = attempted(partial(predicted_bytes, mixed_precision=True), case, patch)
            measured = attempted(allocated_on_cuda, case, patch)
            cells = [case.title, f"{patch[0]}x{patch[1]}", _mebibytes(peak)]
            report.row(cells + deviations.compare("peak, GPU", peak, measured))


def planning_time(report: Report, options: argparse.Namespace) -> float:
    """Rows of what is planned for one data set; returns the seconds of all."""
    size = f"{IMAGE[0]:.0f}x{IMAGE[1]:.0f}"
    report.table(TIME_COLUMNS, f"Planning for {IMAGES} images of {size}, {options.gpu_memory} GiB")
    started = time.perf_counter()
    for name in (x for x in options.networks if x in list_networks()):
        begun = time.perf_counter()
        calls: list[Patch] = []
        plan = choose_patch_and_batch(
            IMAGE,
            size_divisor=get_network_class(name).size_divisor,
            min_size=get_network_class(name).min_size,
            measure=partial(_measure, name, calls),
            target_gib=options.gpu_memory,
            pixels_in_dataset=IMAGE[0] * IMAGE[1] * IMAGES,
        )
        seconds = time.perf_counter() - begun
        patch = f"{plan.patch_size[0]}x{plan.patch_size[1]}"
        numbers = [f"{plan.memory / 2**30:.2f}", str(len(calls)), f"{seconds:.1f}"]
        report.row([name, patch, str(plan.batch_size), *numbers])
    return time.perf_counter() - started


def _measure(name: str, calls: list[Patch], patch: Patch, checkpointing: bool) -> TrainingMemory:
    calls.append(patch)

    def build() -> PlannedNetwork:
        network = PlannedNetwork(CHANNELS, 2, network=name, checkpointing=checkpointing)
        network.auxiliary_in_training = True
        return network

    return measure_training_memory(build, CHANNELS, patch)


def _mebibytes(size: int | str) -> str:
    return size if isinstance(size, str) else f"{size / MEBIBYTE:.1f}"


def _patch(text: str) -> Patch:
    height, width = text.split("x")
    return int(height), int(width)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    known = [*list_networks(), PEER, FOREIGN]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("cpu", "gpu", "time"), help="one part only")
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--patches", nargs="+", type=_patch, help="for instance 256x256 512x768")
    parser.add_argument("--gpu-memory", type=float, default=8, help="GiB to plan for (default: 8)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--output", type=Path, help="file for the tables")
    return parser.parse_args()


def main() -> None:
    """Print the tables row by row."""
    options = parse_options()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    report, deviations, seconds = Report("Planning", options.output), Deviations(), None
    has_gpu = torch.cuda.is_available()
    report.text(f"{machine('cuda' if has_gpu else 'cpu', options.threads)}.")
    if options.only in (None, "cpu"):
        on_cpu(report, options, deviations)
    if options.only in (None, "gpu") and has_gpu:
        on_gpu(report, options, deviations)
    if options.only in (None, "time"):
        seconds = planning_time(report, options)
    report.table(LIMIT_COLUMNS, "Required")
    for table, percent in deviations.largest.items():
        report.limit("largest deviation", table, percent, "%", LARGEST_DEVIATION)
    if seconds is not None:
        report.limit("planning all networks", "meta", seconds, "s", LONGEST_PLANNING)
    report.summary()


if __name__ == "__main__":
    main()
