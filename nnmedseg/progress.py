"""Progress of long work: a bar with rate and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[T], description: str, total: int, unit: str = "cases") -> Iterator[T]:
    """Yield ``items`` and show how far the work is.

    Args:
        items: What is worked on.
        description: What is done, for instance ``"Converting"``.
        total: How many items there will be.
        unit: What one item is called.
    """
    if sys.stdout.isatty():
        yield from _with_bar(items, description, total, unit)
    else:
        yield from _with_lines(items, description, total, unit)


def _with_bar(items: Iterable[T], description: str, total: int, unit: str) -> Iterator[T]:
    from rich import progress as bars  # noqa: PLC0415 - not needed without a terminal

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn(unit),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    start = time.monotonic()
    with bars.Progress(*columns) as bar:
        task = bar.add_task(description, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(task, advance=1, rate=f"{done / (time.monotonic() - start):.1f}/s")


def _with_lines(items: Iterable[T], description: str, total: int, unit: str) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            last = now
            rate = done / (now - start)
            remaining = (total - done) / rate
            logger.info(
                "%s: %d of %d %s, %.1f/s, %.0f s left",
                description, done, total, unit, rate, remaining,
            )  # fmt: skip
    elapsed = time.monotonic() - start
    logger.info("%s: %d %s in %.1f s", description, total, unit, elapsed)
