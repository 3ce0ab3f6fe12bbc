"""Time and memory of every registered network beside nnU-Net's own U-Net, as a Markdown table.

Each network runs at its paper's image size, forward (evaluation mode, batch 1) and in training
(forward, a simple loss, backward, AdamW), in turns with the `PlainConvUNet` that nnU-Net plans for
a patch of that size. Every pass has a process of its own, so that no network's memory hides behind
another's. Run ``python benchmarks/networks.py --threads 1``; use an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from network_pass import PEER, Case, Measurement

from nnmedseg.devices import choose_device
from nnmedseg.networks import list_networks

CHILD = Path(__file__).with_name("network_pass.py")
COLUMNS = (
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


def paper_cases(name: str) -> list[Case]:
    """The inputs that the network's paper uses; 256 x 256 pixels for a network not known here."""
    if name == "heteromedseg":  # its Synapse recipe
        return [Case(name, side=224, channels=1, classes=9)]
    if name == "condseg":
        return [Case(name, options={"encoder": e}) for e in ("resnet50", "pvt_v2_b2")]
    if name.startswith("promise_"):  # two images take the U-Net beyond a few GiB
        return [Case(name, side=1024, training_batch=1)]
    return [Case(name)]


def in_own_process(case: Case, training: bool, options: argparse.Namespace) -> Measurement | str:
    """Measure in a fresh process; what to print instead when it fails or takes too long."""
    task = {
        "case": asdict(case),
        "training": training,
        "device": options.device,
        "threads": options.threads,
        "repeats": options.repeats,
        "clock": clock_name(options),
    }
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    try:
        done = subprocess.run(
            [sys.executable, str(CHILD), json.dumps(task)],
            env=os.environ | threads,
            capture_output=True,
            text=True,
            timeout=options.budget,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"over {options.budget:g} s"
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return f"failed ({done.returncode})"
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def clock_name(options: argparse.Namespace) -> str:
    """The processor's time where it is the whole time, so that other processes do not count."""
    alone = options.device == "cpu" and options.threads == 1
    return "process_time" if alone else "perf_counter"


def cells(result: Measurement | str) -> list[str]:
    """Milliseconds, ratio and memory, as the table shows them."""
    if isinstance(result, str):
        return [result, "-", "-"]
    size = "-" if result.mebibytes is None else f"{result.mebibytes:.0f}"
    return [f"{result.milliseconds:.1f}", f"{result.ratio:.2f}", size]


def row(case: Case, options: argparse.Namespace) -> str:
    """Measure both passes and return the row of the table."""
    forward = in_own_process(case, False, options)
    training = in_own_process(case, True, options)
    operators = "-" if isinstance(training, str) else training.operators
    return as_row([case.title, case.input, *cells(forward), *cells(training), operators])


def as_row(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


def selected_cases(names: Sequence[str], side: int | None) -> list[Case]:
    """The networks' cases, each distinct input preceded by the peer's own."""
    cases: list[Case] = []
    for name in names:
        for case in paper_cases(name):
            wanted = replace(case, side=side) if side else case
            cases += [x for x in (wanted.peer, wanted) if x not in cases]
    return cases


def machine(options: argparse.Namespace) -> str:
    """Processor or GPU, threads and version of PyTorch."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    if options.device == "cuda":
        name = f"{torch.cuda.get_device_name()}, {name}"
    return f"{name}, {options.device}, {options.threads} thread(s), PyTorch {torch.__version__}"


def introduction(options: argparse.Namespace) -> list[str]:
    """What was measured, on what, and how to read it."""
    clock = "processor" if clock_name(options) == "process_time" else "wall-clock"
    return [
        f"{machine(options)}. Medians of {options.repeats} turns, {clock} time, float32.",
        "",
        f"{PEER} is as nnU-Net plans it for that patch: stages down to at least 4 pixels,",
        "32 to 512 features, two convolutions a stage, deep supervision in training. A ratio of 2",
        "means twice as long as it in the same turns. Memory is the rise to the peak in a fresh",
        "process: weights, activations and, in training, gradients and AdamW's state. ProMISe runs",
        f"without given points and trains on one image, as two take {PEER} beyond a few GiB at its",
        "size.",
        "",
    ]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: the best here")
    parser.add_argument("--networks", nargs="+", choices=list_networks(), default=list_networks())
    parser.add_argument("--repeats", type=int, default=5, help="counted turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, help="side of all images instead of the papers'")
    parser.add_argument("--budget", type=float, default=900, help="seconds for each process")
    parser.add_argument("--output", type=Path, help="file for the table")
    return parser.parse_args()


def main() -> None:
    """Print the table row by row."""
    options = parse_options()
    options.device = choose_device(options.device).type
    lines = [*introduction(options), as_row(COLUMNS), as_row(["---"] * len(COLUMNS))]
    print("\n".join(lines), flush=True)
    for case in selected_cases(options.networks, options.size):
        lines.append(row(case, options))
        print(lines[-1], flush=True)
        if options.output:
            options.output.write_text("\n".join(["# The networks' cost", "", *lines]) + "\n")


if __name__ == "__main__":
    main()
