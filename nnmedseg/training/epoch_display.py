"""How far a training is: a bar that moves with each batch, and one line an epoch."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import TYPE_CHECKING

from nnmedseg.training.training_log import EpochResult

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_REFRESHES = 0.1


class Pace:
    """How long the rest of a training takes, judged by the epochs of this process.

    The first epoch starts data loaders and prepares kernels; it counts only until there are others.

    Args:
        epochs_before: Epochs that an earlier process has done.
    """

    def __init__(self, epochs_before: int):
        self._counted_from = float(epochs_before)
        self._since = time.monotonic()
        self._is_warm = False

    def epoch_ends(self, epochs_done: int) -> None:
        """Count from here on, if this was the first epoch."""
        if not self._is_warm:
            self._first_epoch = time.monotonic() - self._since
            self._counted_from, self._since = float(epochs_done), time.monotonic()
            self._is_warm = True

    def seconds_left(self, epochs_done: float, epochs: int) -> float | None:
        """Return the seconds from now to the end, or ``None`` if nothing is known of them.

        Args:
            epochs_done: Epochs since the very beginning, with the part of the present one.
            epochs: Epochs of the whole training.
        """
        remaining = max(epochs - epochs_done, 0.0)
        counted = epochs_done - self._counted_from
        if counted > 0:
            return (time.monotonic() - self._since) / counted * remaining
        return self._first_epoch * remaining if self._is_warm else None


class EpochDisplay:
    """What a user sees of a training: one line an epoch, and a bar where there is a terminal.

    Args:
        epochs_before: Epochs that an earlier process has done.
    """

    def __init__(self, epochs_before: int):
        self._pace = Pace(epochs_before)
        self._bar = _Bar() if sys.stdout.isatty() else None
        self._dice = ""

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def epoch_starts(self, epoch: int, epochs: int, batches: int, images_in_batch: int) -> None:
        """Begin an epoch.

        Args:
            epoch: Counted from 0, as nnU-Net does.
            epochs: Of the whole training.
            batches: Of the epoch, those of the validation included.
            images_in_batch: Of the training.
        """
        self._epoch, self._epochs, self._batches = epoch, epochs, batches
        self._images_in_batch = images_in_batch
        self._done = 0
        self._sum_of_losses, self._number_of_losses = 0.0, 0
        self._start = time.monotonic()
        self._show("")

    def batch_trained(self, loss: float, learning_rate: float) -> None:
        """Move on by a training batch; the loss of one that was skipped is no number."""
        self._done += 1
        if math.isfinite(loss):
            self._sum_of_losses += loss
            self._number_of_losses += 1
        mean = self._sum_of_losses / max(self._number_of_losses, 1)
        speed = self._done * self._images_in_batch / (time.monotonic() - self._start)
        self._show(f"loss {mean:.3f} {self._dice}lr {learning_rate:.2g} {_speed(speed)}")

    def batch_validated(self) -> None:
        """Move on by a validation batch."""
        self._done += 1
        self._show("validating")

    def epoch_ends(self, result: EpochResult, *, validated: bool, is_best: bool) -> None:
        """Print the epoch's line."""
        self._pace.epoch_ends(result.epoch)
        self._dice = f"Dice {result.pseudo_dice:.3f} "
        line = describe(result, self._epochs, validated=validated, is_best=is_best)
        if self._bar is None:
            left = self._pace.seconds_left(result.epoch, self._epochs)
            line += "  " + describe_speed(result, left if result.epoch < self._epochs else None)
        logger.info("%s", line)

    def _show(self, figures: str) -> None:
        if self._bar is not None:
            left = self._pace.seconds_left(self._epoch + self._done / self._batches, self._epochs)
            title = f"Epoch {self._epoch + 1}/{self._epochs}"
            self._bar.show(title, self._done, self._batches, figures, _left(left))


class _Bar:
    """A bar at the bottom of the terminal, above which log lines scroll.

    It is drawn by whoever moves it and not by a thread of its own, of which a data-loading process
    that is forked would inherit the locks.
    """

    def __init__(self) -> None:
        from rich import progress as bars  # noqa: PLC0415 - not needed without a terminal

        self._progress: Progress = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=None),
            bars.TextColumn("{task.fields[figures]}"),
            bars.TextColumn("{task.fields[left]}"),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        terminal = sys.stdout
        self._progress.start()  # which puts itself in the place of sys.stdout
        self._handlers = [
            (handler, handler.setStream(sys.stdout))
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
        ]
        self._task = self._progress.add_task("Starting", figures="", left="")
        self._last_drawn = -math.inf

    def show(self, title: str, done: int, total: int, figures: str, left: str) -> None:
        """Set the bar; it is drawn some times a second at most."""
        self._progress.update(
            self._task, description=title, completed=done, total=total, figures=figures, left=left
        )
        now = time.monotonic()
        if now - self._last_drawn >= SECONDS_BETWEEN_REFRESHES:
            self._last_drawn = now
            self._progress.refresh()

    def close(self) -> None:
        """Take the bar away and give the log its terminal back."""
        self._progress.stop()
        for handler, stream in self._handlers:
            if stream is not None:
                handler.setStream(stream)


def describe(result: EpochResult, epochs: int, *, validated: bool, is_best: bool) -> str:
    """Return an epoch as one line, which a terminal of 80 columns holds.

    Args:
        result: Its figures.
        epochs: Of the whole training.
        validated: Whether it has validation figures of its own.
        is_best: Whether the best checkpoint was written after it.
    """
    parts = [f"Epoch {result.epoch:{len(str(epochs))}d}/{epochs}", f"loss {result.train_loss:.4f}"]
    if validated:
        parts += [f"validation {result.val_loss:.4f}", f"Dice {result.pseudo_dice:.4f}"]
        parts[-1] += " (best)" if is_best else ""
    parts.append(f"lr {result.learning_rate:.2g}")
    if result.skipped_batches:
        parts.append(f"{result.skipped_batches} batches skipped")
    return "  ".join(parts)


def describe_speed(result: EpochResult, seconds_left: float | None) -> str:
    """Return how fast an epoch was, which a bar shows all the time."""
    parts = [_speed(result.images_per_second), f"{result.seconds:.1f} s", _left(seconds_left)]
    return "  ".join(part for part in parts if part)


def _speed(images_per_second: float) -> str:
    return f"{images_per_second:.{1 if images_per_second < 100 else 0}f} images/s"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}"
    return f"{days} d {clock} left" if days else f"{clock} left"
