"""Time and memory of the networks beside nnU-Net's U-Net and beside their plain modules.

    python benchmarks/networks.py [--only unet] [--output benchmarks/results/networks.md]

What is measured:

- ``unet``: every registered network beside the `PlainConvUNet` that nnU-Net plans for a patch of
  that size, on every device here: inference (evaluation mode, batch 1) and a training step
  (forward, a simple loss, backward, AdamW), at the image size of the network's paper. Every pass
  has a process of its own, so that no network's memory hides behind another's. A second table has
  the share that each kind of operator has of a pass.
- ``plain``: RoSPER-Net and ASC-Seg on a CPU beside the same networks made of the modules that the
  authors' code has, with the ratios that are required and aimed at.

How to read it: in the first table a ratio of 2 means twice as long as nnU-Net's U-Net in the same
turns. In the last one it is the peer's time over ours: 10x means a tenth of the peer's time, and
"reached" says whether this run reached what is required. Times on one thread, the default, are the
processor's, so that other processes disturb little. The whole takes an hour or so on one thread;
``--networks rosper asc`` takes a quarter of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from network_pass import PEER, Case, Measurement, Task, in_own_process
from operator_shares import KINDS
from report import Report, machine
from timing import clock_name
from whole_networks import whole_networks

from nnmedseg.networks import list_networks

COST_COLUMNS = (
    "network",
    "input, batch forward / training",
    "forward ms",
    f"ratio to {PEER}",
    "peak MiB forward",
    "training step ms",
    f"ratio to {PEER}",
    "peak MiB training",
    "largest operators of the training step",
)
SHARE_COLUMNS = ("network", "pass", *KINDS)

ABOUT_COST = (
    f"{PEER} is as nnU-Net plans it for that patch: stages down to at least 4 pixels,",
    "32 to 512 features, two convolutions a stage, deep supervision in training. A ratio of 2",
    "means twice as long as it in the same turns. Networks of ours are fused for inference, as",
    "prediction does it. Memory is the rise to the peak in a fresh process: weights,",
    "activations and, in training, gradients and AdamW's state. ProMISe runs without given",
    f"points and trains on one image, as two take {PEER} beyond a few GiB at its size.",
)
ABOUT_SHARES = (
    "By the profiler, of the time spent in operators. What runs inside a slow operator counts to",
    "it, its backward pass too; a depthwise convolution is wide from 7 rows or columns on.",
)


def paper_cases(name: str) -> list[Case]:
    """The inputs that the network's paper uses; 256 x 256 pixels for a network not known here."""
    if name == "heteromedseg":  # its Synapse recipe
        return [Case(name, side=224, channels=1, classes=9)]
    if name == "condseg":
        return [Case(name, options={"encoder": e}) for e in ("resnet50", "pvt_v2_b2")]
    if name.startswith("promise_"):  # two images take the U-Net beyond a few GiB
        return [Case(name, side=1024, training_batch=1)]
    return [Case(name)]


def selected_cases(names: Sequence[str], side: int | None) -> list[Case]:
    """The networks' cases, each distinct input preceded by the peer's own."""
    cases: list[Case] = []
    for name in names:
        for case in paper_cases(name):
            wanted = replace(case, side=side) if side else case
            cases += [x for x in (wanted.peer, wanted) if x not in cases]
    return cases


def unet(report: Report, options: argparse.Namespace) -> None:
    """Two tables for each device: cost beside nnU-Net's U-Net, and the operators' shares."""
    for device in options.device:
        _beside_unet(report, device, options)


def _beside_unet(report: Report, device: str, options: argparse.Namespace) -> None:
    report.table(COST_COLUMNS, f"Beside {PEER}, {device}", ABOUT_COST)
    shares = []
    for case in selected_cases(options.networks, options.size):
        forward, training = (
            in_own_process(
                Task(case, trains, device, options.threads, options.repeats), options.budget
            )
            for trains in (False, True)
        )
        operators = "-" if isinstance(training, str) else training.operators
        report.row([case.title, case.input, *_cost(forward), *_cost(training), operators])
        for name, result in (("inference", forward), ("training step", training)):
            if not isinstance(result, str):
                percent = [f"{result.shares[kind]:.0%}" for kind in KINDS]
                shares.append([f"{case.title}, {case.side} x {case.side}", name, *percent])
    report.table(SHARE_COLUMNS, f"Shares of the operators, {device}", ABOUT_SHARES)
    for cells in shares:
        report.row(cells)


def _cost(result: Measurement | str) -> list[str]:
    """Milliseconds, ratio and memory, as the table shows them."""
    if isinstance(result, str):
        return [result, "-", "-"]
    size = "-" if result.mebibytes is None else f"{result.mebibytes:.0f}"
    return [f"{result.milliseconds:.1f}", f"{result.ratio:.2f}", size]


def introduction(options: argparse.Namespace) -> list[str]:
    """On what was measured, and how."""
    lines = []
    for device in options.device:
        clock = clock_name(device, options.threads)
        name = "processor" if clock == "process_time" else "wall-clock"
        lines.append(f"{machine(device, options.threads)}, {name} time.")
    return [*lines, f"Medians of {options.repeats} turn(s), float32."]


def devices() -> list[str]:
    """The CPU, and the accelerator if there is one."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    elif torch.backends.mps.is_available():
        found.append("mps")
    return found


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("unet", "plain"), help="one part only")
    parser.add_argument(
        "--device", nargs="+", choices=("cpu", "cuda", "mps"), help="default: all that are here"
    )
    parser.add_argument("--networks", nargs="+", choices=list_networks(), default=list_networks())
    parser.add_argument("--repeats", type=int, default=3, help="counted turns (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument(
        "--size", type=int, help="side of all images instead of the papers', for a quick look"
    )
    parser.add_argument("--budget", type=float, default=900, help="seconds for each process")
    parser.add_argument(
        "--line-budget",
        type=float,
        default=60,
        help="seconds after which a line of the part 'plain' begins no further turn",
    )
    parser.add_argument("--output", type=Path, help="file for the tables")
    return parser.parse_args()


def main() -> None:
    """Print the tables row by row."""
    options = parse_options()
    options.device = options.device or devices()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    report = Report("The networks' cost", options.output)
    report.text(*introduction(options))
    if options.only in (None, "unet"):
        unet(report, options)
    if options.only in (None, "plain"):
        whole_networks(report, options)
        report.summary()


if __name__ == "__main__":
    main()
