"""Kill a process while it saves checkpoints, many times: how often is a run lost?

    python benchmarks/kills_while_saving.py --kills 100

A child saves one checkpoint after another and says which it has finished; it is killed (SIGKILL)
at a random moment. A run is lost where no checkpoint can be read, and an epoch is lost where the
newest that can be read is older than the last that was reported as saved. The exit code is 1 if
either ever happens.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from nnmedseg.training.checkpoints import (
    LATEST,
    newest_readable,
    remove_unfinished,
    write_checkpoint,
)


def save_for_ever(fold: Path, megabytes: int, epoch: int, reports: int) -> None:
    """Save checkpoints of the given size, reporting the epoch of each that is finished."""
    weight = torch.zeros(megabytes, 2**18)
    while True:
        epoch += 1
        content = {"network_weights": {"weight": weight.fill_(epoch)}, "current_epoch": epoch}
        write_checkpoint(content, fold / LATEST)
        os.write(reports, epoch.to_bytes(4, "little"))


def killed_run(fold: Path, megabytes: int, epoch: int) -> tuple[int, str]:
    """Go on saving after ``epoch``; return the last reported epoch and where the kill struck."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        save_for_ever(fold, megabytes, epoch, writer)
    os.close(writer)
    last = int.from_bytes(os.read(reader, 4), "little")
    seconds_a_save = time.monotonic()
    last = int.from_bytes(os.read(reader, 4), "little")
    seconds_a_save = time.monotonic() - seconds_a_save
    time.sleep(random.uniform(0, 2 * seconds_a_save))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while report := os.read(reader, 4):
        last = int.from_bytes(report, "little")
    os.close(reader)
    half_written = any(fold.glob(".writing-*"))
    return last, "while writing" if half_written else "between two files"


def main() -> int:
    """Kill, read, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=50, help="size of a checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.set_num_threads(1)  # forked children have none of its threads
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fold, epoch = Path(folder), 0
        for _ in range(options.kills):
            reported, moment = killed_run(fold, options.megabytes, epoch)
            outcomes[f"killed {moment}"] += 1
            found = newest_readable(fold)
            epoch = 0 if found is None else found[1]["current_epoch"]
            outcomes["runs lost"] += found is None
            outcomes["epochs lost"] += epoch < reported
            remove_unfinished(fold)
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome}: {count}")
    return int(outcomes["runs lost"] + outcomes["epochs lost"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
