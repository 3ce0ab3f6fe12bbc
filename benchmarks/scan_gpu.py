"""The selective scan on a GPU: our kernel beside the chunked form and beside ``mamba-ssm``.

RoSPER-Net's Mamba block has four groups of 8 channels; eight images are 32 sequences when the
groups are stacked, as ours are, or four calls of 8. Aims alone, as they were derived and not
measured: forward at 65,536 tokens in 0.4 ms, three times as fast as four calls of the fused CUDA
kernel, no slower than one stacked call of it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from forms import scan_forms
from peers import fused_cuda_scan
from report import SPEED_COLUMNS, Report, Target
from scan_pass import (
    Operation,
    as_peer_reads,
    forward_pass,
    ours,
    random_inputs,
    training_pass,
)
from timing import Pass, median_ratio, median_seconds, synchronise, take_turns
from torch import Tensor

OURS = "triton"
SEQUENCES = 32
GROUPS = 4
CHANNELS = 8
LENGTHS = (1024, 4096, 65536)
AIMS = {"chunked": None, "mamba-ssm, stacked": 1.0, "mamba-ssm, four calls": 3.0}
"""How many times as fast as each peer, by its name in the table."""


def gpu(report: Report, options: argparse.Namespace) -> None:
    """A line for each length, pass and peer."""
    if not torch.cuda.is_available():
        report.notes(["There is no CUDA device: the scan on a GPU is not measured."])
        return
    forms, notes = scan_forms("cuda")
    if OURS in forms:
        report.table(SPEED_COLUMNS, f"Selective scan on {torch.cuda.get_device_name()}, wall clock")
        for length in LENGTHS:
            for backward in (False, True):
                _lines(report, length, backward, "mamba_ssm" in forms, options)
    report.notes(notes)


def _lines(
    report: Report, length: int, backward: bool, with_fused: bool, options: argparse.Namespace
) -> None:
    inputs = random_inputs(SEQUENCES, length, CHANNELS, "cuda")
    passes = {
        OURS: _pass(ours(OURS), inputs, backward),
        "chunked": _pass(ours("chunked"), inputs, backward),
    }
    if with_fused:
        tokens_last = as_peer_reads(inputs)
        passes["mamba-ssm, stacked"] = _pass(fused_cuda_scan, tokens_last, backward)
        passes["mamba-ssm, four calls"] = _pass(_in_four_calls, tokens_last, backward)
    turns = take_turns(passes, time.perf_counter, turns=options.repeats, budget=options.budget)
    for peer in [name for name in passes if name != OURS]:
        name = "forward + backward" if backward else "forward"
        seconds = median_seconds(turns, OURS), median_seconds(turns, peer)
        title = f"{name}, L = {length:,}, {peer}"
        report.speed(title, OURS, seconds, median_ratio(turns, peer, OURS), Target(aim=AIMS[peer]))


def _in_four_calls(*inputs: Tensor) -> Tensor:
    """The fused scan on a quarter of the sequences at a time."""
    parts = [x.chunk(GROUPS) if x.ndim == 3 else [x] * GROUPS for x in inputs]
    return torch.cat([fused_cuda_scan(*part) for part in zip(*parts, strict=True)])


def _pass(operation: Operation, inputs: Sequence[Tensor], backward: bool) -> Pass:
    run = (training_pass if backward else forward_pass)(operation, inputs)

    def to_its_end() -> None:
        run()
        synchronise(inputs[0].device)

    return to_its_end
