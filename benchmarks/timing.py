"""How the scripts measure time: contenders in turns, in one process, as medians."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Clock = Callable[[], float]
Pass = Callable[[], object]
Turn = dict[str, float]

SHORTEST_TIMING = 0.02
"""Seconds; a quicker pass is repeated within its turn until it has taken as long."""

MOST_REPEATS = 50


def clock_name(device: str, threads: int) -> str:
    """The processor's time where it is the whole time, so that other processes do not count."""
    return "process_time" if device == "cpu" and threads == 1 else "perf_counter"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def take_turns(
    passes: Mapping[str, Pass],
    clock: Clock,
    *,
    turns: int = 5,
    budget: float = math.inf,
    warm_up: bool = True,
) -> list[Turn]:
    """Run all passes once uncounted, then one after the other, turn by turn.

    Args:
        passes: What to run, by name; each ends only when the device is done.
        clock: Seconds at some point of time.
        turns: Counted runs of each pass.
        budget: Seconds after which no further turn begins; the first always does.
        warm_up: Whether there is an uncounted run, which also shows which passes are so quick that
            they are repeated within a turn.

    Returns:
        For each turn the seconds of every pass.
    """
    start = time.perf_counter()
    repeats = dict.fromkeys(passes, 1)
    if warm_up:
        repeats = {name: _repeats(_seconds(run, clock)) for name, run in passes.items()}
    counted: list[Turn] = []
    while len(counted) < turns and (not counted or time.perf_counter() - start < budget):
        counted.append({n: _seconds(run, clock, repeats[n]) for n, run in passes.items()})
    return counted


def median_seconds(turns: list[Turn], name: str) -> float:
    """The median of one pass over the turns."""
    return statistics.median(turn[name] for turn in turns)


def median_ratio(turns: list[Turn], name: str, other: str) -> float:
    """The median of how many times as long as ``other`` a pass took, turn by turn."""
    return statistics.median(turn[name] / turn[other] for turn in turns)


def _seconds(run: Pass, clock: Clock, repeats: int = 1) -> float:
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def _repeats(seconds: float) -> int:
    return min(MOST_REPEATS, max(1, math.ceil(SHORTEST_TIMING / max(seconds, 1e-9))))
