"""Tables that are read in a terminal and kept as Markdown, and whether figures are reached."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

WIDTHS = (44, 9)
"""Least widths of the first column and of the others, in characters."""

SPEED_COLUMNS = (
    "operation",
    "form",
    "ours ms",
    "peer ms",
    "peer / ours",
    "required",
    "reached",
    "aim",
    "aim reached",
)
LIMIT_COLUMNS = (
    "quantity",
    "form",
    "measured",
    "unit",
    "at most",
    "reached",
)
RATIO_COLUMNS = (
    "quantity",
    "form",
    "ours",
    "peer",
    "unit",
    "ratio",
    "required",
    "reached",
)


@dataclass(frozen=True)
class Target:
    """How many times faster than its peer an operation has to be, and should be."""

    required: float | None = None
    aim: float | None = None


class Report:
    """Prints lines as they come, and keeps them in a file if one is named.

    Args:
        title: Heading of the file.
        output: The file, written anew after each line.
    """

    def __init__(self, title: str, output: Path | None):
        self._lines = [f"# {title}", ""]
        self._output = output
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
        self._reached = 0
        self._missed: list[str] = []
        self._widths: list[int] = []

    def text(self, *lines: str) -> None:
        """Print lines as they are, and an empty one."""
        for line in (*lines, ""):
            self._line(line)

    def notes(self, lines: Sequence[str]) -> None:
        """Print lines after a table, if there are any."""
        if lines:
            self.text("", *lines)

    def table(self, columns: Sequence[str], heading: str = "", about: Sequence[str] = ()) -> None:
        """Begin a table, with a heading and lines on how to read it."""
        self._line("")
        if heading:
            self.text(f"## {heading}")
        if about:
            self.text(*about)
        self._widths = [max(WIDTHS[bool(i)], len(name)) for i, name in enumerate(columns)]
        self.row(columns)
        self.row(["-" * width for width in self._widths])

    def row(self, cells: Sequence[str]) -> None:
        """A row of the table that was begun last."""
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        self._line(f"| {' | '.join(padded)} |")

    def speed(
        self, title: str, form: str, seconds: tuple[float, float], ratio: float, target: Target
    ) -> None:
        """A row of `SPEED_COLUMNS`: seconds of ours and of the peer, and what they are held to."""
        times = [f"{1e3 * value:.2f}" for value in seconds]
        reached = self._judge(f"{title}, {form}", target.required, lambda x: ratio >= x)
        aim = "-" if target.aim is None else ("yes" if ratio >= target.aim else "no")
        targets = [_factor(target.required), reached, _factor(target.aim), aim]
        self.row([title, form, *times, f"{ratio:.1f}x", *targets])

    def limit(self, title: str, form: str, value: float, unit: str, at_most: float) -> None:
        """A row of `LIMIT_COLUMNS`."""
        reached = self._judge(f"{title}, {form}", at_most, lambda x: value <= x)
        self.row([title, form, f"{value:.3g}", unit, f"{at_most:g}", reached])

    def ratio(
        self, title: str, form: str, values: tuple[float, float], unit: str, required: float | None
    ) -> None:
        """A row of `RATIO_COLUMNS`: ours and the peer's, of which the larger is divided.

        Args:
            title: What is measured.
            form: On what.
            values: Of ours and of the peer.
            unit: Of both; of a rate (``.../s``) more is better, of all others less.
            required: How many times better ours has to be.
        """
        ours, peer = values
        ratio = ours / peer if unit.endswith("/s") else peer / ours
        reached = self._judge(f"{title}, {form}", required, lambda x: ratio >= x)
        cells = [f"{ours:.3g}", f"{peer:.3g}", unit, f"{ratio:.1f}x", _factor(required), reached]
        self.row([title, form, *cells])

    def summary(self) -> None:
        """Say how many required figures were reached, and which were not."""
        total = self._reached + len(self._missed)
        self.text("", f"Reached {self._reached} of {total} required figures.")
        if self._missed:
            self.text("Not reached:", "", *(f"- {title}" for title in self._missed))

    def _judge(self, title: str, bound: float | None, holds: Callable[[float], bool]) -> str:
        if bound is None:
            return "-"
        if holds(bound):
            self._reached += 1
            return "yes"
        self._missed.append(title)
        return "NO"

    def _line(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)
        if self._output:
            self._output.write_text("\n".join(self._lines) + "\n")


def machine(device: str, threads: int) -> str:
    """Processor or GPU, threads and version of PyTorch."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, {name}"
    return f"{name}, {device}, {threads} thread(s), PyTorch {torch.__version__}"


def _factor(value: float | None) -> str:
    return "-" if value is None else f"{value:g}x"
