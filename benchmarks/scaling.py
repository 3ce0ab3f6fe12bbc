"""How time and memory grow with the length of a sequence and with the size of an image.

    python benchmarks/scaling.py [--quick] [--output benchmarks/results/scaling.md]

What is measured, on a CPU:

- ``scan``: forward and backward of the selective scan over 2^10 to 2^18 tokens, in each form
  (B = 2, D = 8, N = 16), and its extra memory in a fresh process (see ``scan_memory.py``);
- ``networks``: inference and a training step on one image of 128 to 1024 pixels a side, each in a
  fresh process, with the rise of its memory to the peak. nnU-Net's U-Net is the one planned for
  128 x 128 at all sizes. In training, the norms of RoSPER-Net's and ASC-Seg's channel gates are in
  evaluation mode, since one image has one value a channel there.

How to read it: the slope is the power of the number of tokens or pixels with which time or memory
grows over the larger sizes (a straight line through the logarithms). 1 is linear, 2 quadratic;
below 1 a constant part still counts, and a little above 1 maps have outgrown the caches and what
malloc keeps: nnU-Net's U-Net has that too, so compare with its line. A size that would not fit in
the memory that is free, going by the size before it, is left out and says so. The whole takes a
quarter of an hour on one thread; ``--quick`` a few minutes, but its slopes are of small sizes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from forms import scan_forms
from memory import MEBIBYTE, available_bytes
from network_pass import PEER, Case, Measurement, Task, in_own_process
from report import Report, machine
from scan_memory import Task as MemoryTask
from scan_memory import extra_bytes
from scan_pass import ours, random_inputs, training_pass
from timing import clock_name, median_seconds, take_turns

BATCH = 2
CHANNELS = 8
LENGTHS = tuple(2**power for power in range(10, 19))
QUICK_LENGTHS = LENGTHS[:7]
SIDES = (128, 256, 512, 1024)
QUICK_SIDES = SIDES[:2]
NETWORKS = (PEER, "rosper", "asc", "heteromedseg")
PLANNED_SIDE = 128
MOST_OF_MEMORY = 0.7
"""Share of the free memory that an image may be expected to take."""

SCAN_COLUMNS = ("form", "tokens", "forward + backward ms", "ns a token", "extra MiB")
NETWORK_COLUMNS = ("network", "pass", "image", "ms", "ns a pixel", "peak MiB")
SLOPE_COLUMNS = ("what", "range", "slope of time", "slope of memory")

Point = tuple[float, float, float | None]
"""A size (tokens or pixels), seconds, and bytes where they are known."""


def scan(report: Report, options: argparse.Namespace) -> None:
    """A table of times and memory, and one of slopes."""
    forms, notes = scan_forms()
    clock = getattr(time, clock_name("cpu", options.threads))
    points: dict[str, list[Point]] = {form: [] for form in forms}
    report.table(SCAN_COLUMNS, "Selective scan")
    for length in QUICK_LENGTHS if options.quick else LENGTHS:
        inputs = random_inputs(BATCH, length, CHANNELS)
        passes = {form: training_pass(ours(form), inputs) for form in forms}
        turns = take_turns(passes, clock, turns=options.repeats)
        for form in forms:
            seconds = median_seconds(turns, form)
            extra = extra_bytes(MemoryTask(form, BATCH, length, CHANNELS, options.threads))
            points[form].append((length, seconds, extra))
            cells = [f"{1e3 * seconds:.2f}", f"{1e9 * seconds / (BATCH * length):.0f}"]
            report.row([form, f"{length:,}", *cells, _mebibytes(extra)])
    report.table(SLOPE_COLUMNS)
    for form in forms:
        _slopes(report, f"selective scan, {form}", points[form], "tokens")
    report.notes(notes)


def networks(report: Report, options: argparse.Namespace) -> None:
    """A table of times and memory, and one of slopes."""
    report.table(NETWORK_COLUMNS, "Networks, one image")
    points: dict[str, list[Point]] = {}
    for name in options.networks:
        for training in (False, True):
            title = f"{name}, {'training step' if training else 'inference'}"
            points[title] = _growth(report, name, training, options)
    report.table(SLOPE_COLUMNS)
    for title, found in points.items():
        _slopes(report, title, found, "pixels")


def _growth(report: Report, name: str, training: bool, options: argparse.Namespace) -> list[Point]:
    """One pass at all sizes that fit."""
    points: list[Point] = []
    for side in QUICK_SIDES if options.quick else SIDES:
        cells = [name, "training step" if training else "inference", f"{side} x {side}"]
        needed = _expected_bytes(points, side * side)
        if needed > MOST_OF_MEMORY * available_bytes():
            report.row([*cells, f"left out, takes about {needed / 2**30:.0f} GiB", "-", "-"])
            break
        case = Case(name, side=side, training_batch=1, planned_side=PLANNED_SIDE)
        repeats = 1 if side > 512 else options.repeats
        task = Task(case, training, "cpu", options.threads, repeats, alone=True)
        result = in_own_process(task, options.budget)
        if not isinstance(result, Measurement):
            report.row([*cells, result, "-", "-"])
            break
        seconds = result.milliseconds / 1e3
        size = None if result.mebibytes is None else result.mebibytes * MEBIBYTE
        points.append((side * side, seconds, size))
        per_pixel = f"{1e9 * seconds / (side * side):.0f}"
        report.row([*cells, f"{result.milliseconds:.1f}", per_pixel, _mebibytes(size)])
    return points


def _expected_bytes(points: Sequence[Point], pixels: int) -> float:
    """What a larger image takes, going by the one before it."""
    before, _, size = points[-1] if points else (pixels, 0.0, 0.0)
    return (size or 0.0) * pixels / before


def _slopes(report: Report, title: str, points: Sequence[Point], unit: str) -> None:
    """A line for the upper half of the points, the middle included."""
    upper = points[(len(points) - 1) // 2 :]
    if len(upper) < 2:
        report.row([title, "too few sizes", "-", "-"])
        return
    sizes = [point[0] for point in upper]
    scale = f"{sizes[0]:,.0f} to {sizes[-1]:,.0f} {unit}"
    seconds = f"{slope(sizes, [point[1] for point in upper]):.2f}"
    known = [point[2] for point in upper if point[2] is not None and point[2] > 0]
    memory = f"{slope(sizes, known):.2f}" if len(known) == len(sizes) else "-"
    report.row([title, scale, seconds, memory])


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the size with which the cost grows: least squares on the logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def _mebibytes(size: float | None) -> str:
    return "-" if size is None else f"{size / MEBIBYTE:.1f}"


def main() -> None:
    """Measure what the arguments ask for."""
    parts = {f.__name__: f for f in (scan, networks)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=parts, help="one part only")
    parser.add_argument("--quick", action="store_true", help="leave out the larger sizes")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3, help="counted runs (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--budget", type=float, default=600, help="seconds for each process")
    parser.add_argument("--output", type=Path, help="file for the tables")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    report = Report("How cost grows with size", options.output)
    clock = "processor" if clock_name("cpu", options.threads) == "process_time" else "wall-clock"
    report.text(
        f"{machine('cpu', options.threads)}.",
        f"Medians of {options.repeats} run(s); networks beyond 512 pixels ran once.",
        f"{clock.capitalize()} time, float32.",
        "A slope of 1 is linear growth, over the larger sizes.",
    )
    for name, part in parts.items():
        if options.only in (None, name):
            part(report, options)


if __name__ == "__main__":
    main()
