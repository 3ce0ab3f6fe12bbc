"""Our operations beside the usual ones, and whether each figure that was promised is reached.

    python benchmarks/kernels.py [--only scan] [--output benchmarks/results/kernels.md]

What is measured, on a CPU but for the last:

- ``scan``: the selective scan in each of its forms beside the sequential scan, B = 2, D = 8,
  N = 16; then nanoseconds of a state update (time over B L D N) and extra memory at B = 8, where
  the sequential scan's backward would take hours; then the error against float64.
- ``deformable``: the deformable 3x3 depthwise convolution beside torchvision's, on RoSPER-Net's
  maps at 256 x 256.
- ``ssd``: the non-causal state-space duality beside the form head by head, on HeteroMedSeg's
  tokens at 224 x 224.
- ``depthwise``: wide depthwise convolutions in channels_last beside PyTorch's own in NCHW.
- ``gpu``: the selective scan on a CUDA device if there is one; see ``scan_gpu.py``.

How to read it: every line has the medians of ours and of the peer, taken in turns in one process,
and the median of their ratio (3x: a third of the peer's time). "required" is what every run on a
quiet machine has to reach, "aim" the goal; "reached" says whether this run did. With one thread,
the default, time is the processor's, so that other processes disturb little. Forms that do not run
here are named and left out. The whole takes a few minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from forms import DEFORMABLE, deformable_forms, forced
from peers import native_depthwise, per_head_ssd, torchvision_deformable
from report import LIMIT_COLUMNS, SPEED_COLUMNS, Report, Target, machine
from scan_figures import scan
from scan_gpu import gpu
from scan_pass import Operation, forward_pass, outcome, training_pass
from timing import Pass, clock_name, median_ratio, median_seconds, take_turns
from torch import Tensor

from nnmedseg.ops import deformable_depthwise_conv, depthwise_conv
from nnmedseg.ops.ssd import noncausal_ssd

DEFORMABLE_MAPS = ((2, 16, 256), (2, 32, 128), (2, 48, 64), (2, 64, 32))
DEFORMABLE_TARGETS = {"sampling": Target(4, 6), "numba": Target(12, 25)}
DEFORMABLE_ERROR = 5e-6
DEFORMABLE_COMPARED = DEFORMABLE_MAPS[-2:]
"""On larger maps rounding a position in float32 changes more than that, in torchvision's too."""

SSD_TOKENS = ((3136, 3), (784, 6), (196, 12))
"""Tokens and heads of HeteroMedSeg's stages."""
SSD_TARGETS = {False: Target(1.5, 3), True: Target(1.3, 1.6)}

DEPTHWISE_AIMS = {(15, 15): 13.0, (11, 11): 4.3, (7, 7): 2.2, (1, 15): 1.6}


def compare(
    passes: dict[str, Pass],
    title: str,
    targets: dict[str, Target],
    report: Report,
    options: argparse.Namespace,
) -> None:
    """A line for every form in ``targets``, beside ``passes["peer"]``."""
    clock = getattr(time, clock_name("cpu", options.threads))
    turns = take_turns(passes, clock, turns=options.repeats, budget=options.budget)
    for form, target in targets.items():
        seconds = median_seconds(turns, form), median_seconds(turns, "peer")
        report.speed(title, form, seconds, median_ratio(turns, "peer", form), target)


def deformable(report: Report, options: argparse.Namespace) -> None:
    """The deformable convolution beside torchvision's: speed, then agreement."""
    forms, notes = deformable_forms()
    report.table(SPEED_COLUMNS, "Deformable convolution, forward + backward, beside torchvision's")
    for shape in DEFORMABLE_MAPS:
        given = _deformable_inputs(*shape)
        passes = {form: training_pass(_deformable(form), _channels_last(given)) for form in forms}
        passes["peer"] = training_pass(torchvision_deformable, given)
        targets = {form: DEFORMABLE_TARGETS[form] for form in forms}
        compare(passes, _map_title(shape), targets, report, options)
    report.table(LIMIT_COLUMNS, "Deformable convolution: agreement with torchvision")
    for shape in DEFORMABLE_COMPARED:
        given = _deformable_inputs(*shape)
        for form in forms:
            error = _disagreement(_deformable(form), given)
            title = f"output and gradients, {_map_title(shape)}"
            report.limit(title, form, error, "", DEFORMABLE_ERROR)
    report.notes(notes)


def _deformable_inputs(batch: int, channels: int, side: int) -> list[Tensor]:
    """Map, offsets and filters; no offset is within 0.05 of a whole number of pixels.

    There the gradient of the offset jumps, and rounding decides on which side a position lies.
    """
    x = torch.randn(batch, channels, side, side)
    offset = torch.randn(batch, 18, side, side)
    offset = offset.floor() + 0.05 + 0.9 * (offset - offset.floor())
    weight = torch.randn(channels, 1, 3, 3)
    return [tensor.requires_grad_() for tensor in (x, offset, weight)]


def _deformable(form: str) -> Operation:
    def run(*inputs: Tensor) -> Tensor:
        with forced(**{DEFORMABLE: form}):
            return deformable_depthwise_conv(*inputs)

    return run


def _disagreement(operation: Operation, inputs: Sequence[Tensor]) -> float:
    """The largest difference of output and gradients, relative to the largest entry of each."""
    incoming = torch.randn_like(inputs[0])
    found, wanted = (
        outcome(function, given, incoming)
        for function, given in (
            (operation, _channels_last(inputs)),
            (torchvision_deformable, inputs),
        )
    )
    return max(
        ((x - y).abs().max() / y.abs().max()).item() for x, y in zip(found, wanted, strict=True)
    )


def ssd(report: Report, options: argparse.Namespace) -> None:
    """The non-causal state-space duality beside the form head by head."""
    report.table(SPEED_COLUMNS, "Non-causal SSD beside the form head by head")
    for backward, target in SSD_TARGETS.items():
        new_pass: Callable[..., Pass] = training_pass if backward else forward_pass
        for tokens, heads in SSD_TOKENS:
            vectors = (2, tokens, 1, 64)
            inputs = [
                torch.randn(2, tokens, heads, 64),
                torch.rand(2, tokens, heads),
                -torch.rand(heads),
                torch.randn(vectors),
                torch.randn(vectors),
                torch.randn(heads),
            ]
            inputs = [x.requires_grad_() for x in inputs]
            passes = {"ours": new_pass(noncausal_ssd, inputs)}
            passes["peer"] = new_pass(per_head_ssd, inputs)
            name = "forward + backward" if backward else "forward"
            title = f"{name}, {tokens} tokens, {heads} heads"
            compare(passes, title, {"ours": target}, report, options)


def depthwise(report: Report, options: argparse.Namespace) -> None:
    """Wide depthwise convolutions beside PyTorch's own; their targets are measured values."""
    report.table(SPEED_COLUMNS, "Wide depthwise convolution, forward + backward, beside NCHW")
    shape = (2, 16, 256)
    for kernel, aim in DEPTHWISE_AIMS.items():
        x = torch.randn(2, 16, 256, 256).requires_grad_()
        weight = torch.randn(16, 1, *kernel).requires_grad_()
        passes = {"ours": training_pass(depthwise_conv, _channels_last([x, weight]))}
        passes["peer"] = training_pass(native_depthwise, [x, weight])
        title = f"{kernel[0]}x{kernel[1]}, {_map_title(shape)}"
        compare(passes, title, {"ours": Target(aim=aim)}, report, options)


def _channels_last(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs with the first, a map, laid out as inside a network on a CPU."""
    maps = inputs[0].detach().contiguous(memory_format=torch.channels_last)
    return [maps.requires_grad_(), *inputs[1:]]


def _map_title(shape: tuple[int, int, int]) -> str:
    batch, channels, side = shape
    return f"{batch} x {channels} x {side} x {side}"


def main() -> None:
    """Measure what the arguments ask for."""
    parts = {f.__name__: f for f in (scan, deformable, ssd, depthwise, gpu)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="parts")
    parser.add_argument("--repeats", type=int, default=5, help="counted turns (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument(
        "--budget", type=float, default=15, help="seconds a line after which no turn begins"
    )
    parser.add_argument("--output", type=Path, help="file for the tables")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    report = Report("The operations' speed", options.output)
    clock = "processor" if clock_name("cpu", options.threads) == "process_time" else "wall-clock"
    report.text(
        f"{machine('cpu', options.threads)}.",
        f"Medians of at most {options.repeats} turns, {clock} time, float32.",
    )
    for name in options.only:
        parts[name](report, options)
    report.summary()


if __name__ == "__main__":
    main()
