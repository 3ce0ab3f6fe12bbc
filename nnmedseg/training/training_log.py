"""What is kept of every epoch: a row of ``log.csv``, and scalars that TensorBoard shows."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from nnmedseg.files import atomic_path

LOG_FILE = "log.csv"
TENSORBOARD_FOLDER = "tensorboard"
_EVENT_FORMAT = "brain.Event:2"


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One epoch's figures.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean over the batches of the epoch.
        val_loss: Mean over the validation batches.
        pseudo_dice: Mean Dice over the classes, on validation patches.
        pseudo_dice_of_classes: Dice of each class by its name.
        ema_pseudo_dice: Moving average of ``pseudo_dice``, which chooses the best checkpoint.
        learning_rate: Of the first group of parameters.
        seconds: From the start of the epoch to the end of its validation.
        images_per_second: Training images, while batches were trained on.
        skipped_batches: Batches left out because of infinite numbers.
        peak_memory_mib: Most memory so far, of the accelerator's allocations or of the process.
    """

    epoch: int
    train_loss: float
    val_loss: float
    pseudo_dice: float
    pseudo_dice_of_classes: Mapping[str, float]
    ema_pseudo_dice: float
    learning_rate: float
    seconds: float
    images_per_second: float
    skipped_batches: int
    peak_memory_mib: float | None

    def to_row(self) -> dict[str, float | None]:
        """Return the figures by the names of the columns, each class in one of its own."""
        fields = dict(vars(self))
        classes = fields.pop("pseudo_dice_of_classes")
        row: dict[str, float | None] = {}
        for name, value in fields.items():
            row[name] = value
            if name == "pseudo_dice":
                row |= {f"pseudo_dice_{label}": dice for label, dice in classes.items()}
        return row


class CsvLog:
    """``log.csv``: a row an epoch, on the disk when the epoch ends.

    Args:
        folder: The fold's folder.
        epochs_done: Rows of later epochs, which a resumed run repeats, are removed.
    """

    def __init__(self, folder: Path, epochs_done: int):
        self.path = folder / LOG_FILE
        self._keep(epochs_done)

    def append(self, result: EpochResult) -> None:
        """Write one row; those of the same and of later epochs are replaced by it."""
        row = result.to_row()
        columns = self._keep(result.epoch - 1)
        if columns != list(row):
            self._rewrite(list(row), self._rows())
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line([_text(value) for value in row.values()]))
            file.flush()
            os.fsync(file.fileno())

    def _keep(self, epochs: int) -> list[str]:
        """Remove the rows of epochs beyond and return the columns."""
        rows = self._rows()
        kept = [row for row in rows if row["epoch"].isdecimal() and int(row["epoch"]) <= epochs]
        columns = list(kept[0]) if kept else []
        if rows != kept or self._ends_amid_a_line():
            self._rewrite(columns, kept)
        return columns

    def _rows(self) -> list[dict[str, str]]:
        """Return the whole rows; a process that was killed may have left half of one."""
        if not self.path.is_file():
            return []
        whole, _, _ = self.path.read_text("utf-8").rpartition("\n")
        return [
            row
            for row in csv.DictReader(io.StringIO(whole))
            if None not in row and None not in row.values() and "epoch" in row
        ]

    def _ends_amid_a_line(self) -> bool:
        return self.path.is_file() and not self.path.read_bytes().endswith(b"\n")

    def _rewrite(self, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        lines = [_line(columns)] if columns else []
        lines += [_line([row.get(column, "") for column in columns]) for row in rows]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(lines), "utf-8", newline="")


class EventLog:
    """An event file of TensorBoard's, written and flushed as each epoch ends.

    Written with tensorboardX's records rather than its ``SummaryWriter``, which leaves the writing
    to a thread and a pipe that data-loading processes inherit, and puts the name of the machine
    into that of the file.

    Args:
        folder: The fold's folder.
        epochs_done: What an earlier run has written of later epochs is hidden.
    """

    def __init__(self, folder: Path, epochs_done: int):
        target = folder / TENSORBOARD_FOLDER
        target.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        self._records = RecordWriter(str(target / f"events.out.tfevents.{time.time():.6f}"))
        self._write(Event(file_version=_EVENT_FORMAT))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=epochs_done + 1, session_log=start))
        self._records.flush()

    def append(self, result: EpochResult) -> None:
        """Write the epoch's figures, with the epoch as their step."""
        for name, value in named_metrics(result).items():
            self._write(Event(step=result.epoch, summary=scalar(name, value)))
        self._records.flush()

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def named_metrics(result: EpochResult) -> dict[str, float]:
    """Return the figures under names that group them, for TensorBoard, MLflow and W&B."""
    metrics: dict[str, float | None] = {
        "loss/train": result.train_loss,
        "loss/validation": result.val_loss,
        "pseudo_dice/mean": result.pseudo_dice,
        "pseudo_dice/moving_average": result.ema_pseudo_dice,
        **{f"pseudo_dice/{name}": dice for name, dice in result.pseudo_dice_of_classes.items()},
        "training/learning_rate": result.learning_rate,
        "training/seconds_an_epoch": result.seconds,
        "training/images_per_second": result.images_per_second,
        "training/skipped_batches": result.skipped_batches,
        "training/peak_memory_mib": result.peak_memory_mib,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _text(value: float | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
