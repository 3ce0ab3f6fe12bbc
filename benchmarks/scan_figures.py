"""The figures of the selective scan: speed, cost of a state update, extra memory and error."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from forms import scan_forms
from peers import sequential_scan
from report import LIMIT_COLUMNS, SPEED_COLUMNS, Report, Target
from scan_memory import Task, extra_bytes
from scan_pass import (
    NAMES,
    STATES,
    as_peer_reads,
    forward_pass,
    ours,
    outcome,
    random_inputs,
    training_pass,
)
from timing import clock_name, median_ratio, median_seconds, take_turns
from torch import Tensor

CHANNELS = 8
SPEED_BATCH = 2
COST_BATCH = 8
LONGEST = 65536

TARGETS = {
    "chunked": {
        (1024, False): Target(4, 8),
        (4096, False): Target(7, 12),
        (65536, False): Target(8, 20),
        (1024, True): Target(20, 40),
        (4096, True): Target(80, 130),
    },
    "numba": {
        (1024, False): Target(15, 40),
        (4096, False): Target(25, 80),
        (65536, False): Target(30, 120),
        (1024, True): Target(80, 150),
        (4096, True): Target(400, 800),
    },
}
"""By form, then by length and whether with backward: how many times the sequential scan's speed."""

NANOSECONDS = {"chunked": (6, 18), "numba": (1.6, 4)}
"""At most for a state update, forward and backward."""

MEGABYTES = {"chunked": 350, "numba": 50}
"""At most beyond inputs, output and gradients."""

ERRORS = {1024: 2e-6, 4096: 2e-6, LONGEST: 1e-5}
FLOAT64_ERROR = 1e-13


def scan(report: Report, options: argparse.Namespace) -> None:
    """All figures of the forms that run on this CPU and have any."""
    forms, notes = scan_forms()
    forms = [form for form in forms if form in TARGETS]
    report.table(SPEED_COLUMNS, "Selective scan beside the sequential scan")
    _speed(report, forms, options)
    report.table(LIMIT_COLUMNS, "Selective scan: cost, memory and error")
    _cost(report, forms, options)
    _memory(report, forms, options)
    _error(report, forms)
    report.notes(notes)


def _speed(report: Report, forms: Sequence[str], options: argparse.Namespace) -> None:
    clock = getattr(time, clock_name("cpu", options.threads))
    for length, backward in TARGETS["chunked"]:
        inputs = random_inputs(SPEED_BATCH, length, CHANNELS)
        new_pass = training_pass if backward else forward_pass
        passes = {form: new_pass(ours(form), inputs) for form in forms}
        passes["peer"] = new_pass(sequential_scan, as_peer_reads(inputs))
        turns = take_turns(passes, clock, turns=options.repeats, budget=options.budget)
        for form in forms:
            report.speed(
                f"{'forward + backward' if backward else 'forward'}, L = {length:,}",
                form,
                (median_seconds(turns, form), median_seconds(turns, "peer")),
                median_ratio(turns, "peer", form),
                TARGETS[form][length, backward],
            )


def _cost(report: Report, forms: Sequence[str], options: argparse.Namespace) -> None:
    """Nanoseconds of a state update; backward is forward and backward less forward."""
    clock = getattr(time, clock_name("cpu", options.threads))
    inputs = random_inputs(COST_BATCH, LONGEST, CHANNELS)
    updates = COST_BATCH * LONGEST * CHANNELS * STATES
    for form in forms:
        passes = {
            "forward": forward_pass(ours(form), inputs),
            "both": training_pass(ours(form), inputs),
        }
        turns = take_turns(passes, clock, turns=options.repeats, budget=options.budget)
        backward = statistics.median(turn["both"] - turn["forward"] for turn in turns)
        seconds = {"forward": median_seconds(turns, "forward"), "backward": backward}
        for (name, taken), limit in zip(seconds.items(), NANOSECONDS[form], strict=True):
            title = f"{name}, state update, L = {LONGEST:,}"
            report.limit(title, form, 1e9 * taken / updates, "ns", limit)


def _memory(report: Report, forms: Sequence[str], options: argparse.Namespace) -> None:
    for form in forms:
        extra = extra_bytes(Task(form, COST_BATCH, LONGEST, CHANNELS, options.threads))
        if extra is None:
            report.notes(["The system does not tell the peak of a process."])
        else:
            title = f"extra memory in training, L = {LONGEST:,}"
            report.limit(title, form, extra / 1e6, "MB", MEGABYTES[form])


def _error(report: Report, forms: Sequence[str]) -> None:
    """Errors relative to the largest entry of the output, and of each gradient."""
    for length, limit in ERRORS.items():
        inputs = random_inputs(SPEED_BATCH, length, CHANNELS)
        wide = [x.detach().double().requires_grad_() for x in inputs]
        incoming = torch.randn_like(inputs[0])
        chunked = outcome(ours("chunked"), wide, incoming.double())
        reference = chunked
        if length < LONGEST:
            reference = _sequential_outcome(wide, incoming.double())
            title = f"error in float64, L = {length:,}"
            error = max(error for _, error in _errors(chunked, reference))
            report.limit(title, "chunked", error, "", FLOAT64_ERROR)
        for form in forms:
            (_, of_output), *of_gradients = _errors(
                outcome(ours(form), inputs, incoming), reference
            )
            name, largest = max(of_gradients, key=lambda pair: pair[1])
            report.limit(f"error of the output, L = {length:,}", form, of_output, "", limit)
            title = f"largest error of a gradient ({name}), L = {length:,}"
            report.limit(title, form, largest, "", limit)


def _sequential_outcome(inputs: Sequence[Tensor], incoming: Tensor) -> list[Tensor]:
    """`outcome` of the sequential scan, laid out as ours."""
    tokens_last = incoming.transpose(1, 2).contiguous()
    found = outcome(sequential_scan, as_peer_reads(inputs), tokens_last)
    return [x.transpose(1, 2) if x.ndim == 3 else x for x in found]


def _errors(found: Sequence[Tensor], exact: Sequence[Tensor]) -> Iterator[tuple[str, float]]:
    for name, x, y in zip(("output", *NAMES), found, exact, strict=True):
        yield name, ((x.double() - y).abs().max() / y.abs().max()).item()
