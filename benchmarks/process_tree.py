"""Time and memory of a command and of all processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.25
"""A look at a process of gigabytes takes milliseconds of a core that the command could use."""


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        peak: Bytes that its processes held together at most, memory that they share counted once;
            ``None`` where the system does not tell.
    """

    seconds: float
    peak: int | None

    def followed_by(self, other: Usage) -> Usage:
        """What two commands took, one after the other."""
        peaks = [peak for peak in (self.peak, other.peak) if peak is not None]
        return Usage(self.seconds + other.seconds, max(peaks, default=None))


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command without its output and look at its processes until it ends.

    Raises:
        subprocess.CalledProcessError: It fails.
    """
    peak = 0
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, sum(_proportional_size(pid) for pid in _tree(process.pid)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - start
        _, errors = process.communicate()
    if process.returncode:
        sys.stderr.write(errors)
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return Usage(seconds, peak or None)


def _tree(pid: int) -> Iterator[int]:
    """Go through a process and all that descend from it."""
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - quicker
        children = [Path(f"/proc/{pid}/task/{thread}/children").read_text() for thread in threads]
    except OSError:
        return
    for child in " ".join(children).split():
        yield from _tree(int(child))


def _proportional_size(pid: int) -> int:
    """Return the memory of a process in bytes, of shared pages its part; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0)
