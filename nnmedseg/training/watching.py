"""nnU-Net's trainer with figures, pictures and a record of every epoch, and little on the screen.

Epochs are counted from 1 in what users see, and from 0 in nnU-Net's own log and code.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.files import read_json
from nnmedseg.training.epoch_display import EpochDisplay
from nnmedseg.training.panel_writer import PanelWriter
from nnmedseg.training.peak_memory import peak_memory
from nnmedseg.training.run_record import RunRecord
from nnmedseg.training.trackers import Tracking
from nnmedseg.training.training_log import CsvLog, EpochResult, EventLog, named_metrics

logger = logging.getLogger(__name__)

CITATION = (
    "This is nnU-Net's training; please cite it beside the network's paper: Isensee et al., "
    "Nature Methods 18, 203-211 (2021)"
)
SHARE_FOR_PLOTTING = 0.02
"""Of the time of the epochs, that drawing progress.png may take."""


class WatchedTrainer(nnUNetTrainer):
    """Shows and keeps what happens in each epoch.

    nnU-Net's own lines go to its log file only where ours are shown, that is in our commands and
    wherever the package's log is set to INFO; elsewhere nnU-Net prints as ever.

    Attributes:
        val_every: Epochs from one validation on patches to the next. The first epoch and the last
            one are validated in any case; in between, the last values stand.
        panel_every: Epochs from one panel of images to the next, besides that of the last epoch;
            0 for no panels.
        trackers: See `Tracking`.
        run_record: The file that tells of the run, where one is kept.
    """

    num_val_iterations_per_epoch: int
    skipped_in_epoch: int = 0
    val_every: int = 1
    panel_every: int = 10
    trackers: Mapping[str, str | None] = MappingProxyType({})
    run_record: RunRecord | None = None

    _display: EpochDisplay | None = None
    _validated = True
    _seconds_of_epochs = 0.0
    _seconds_of_plots = 0.0
    _is_plotted = False
    _is_quiet = False
    _panels: PanelWriter | None = None
    _tracking: Tracking | None = None

    def print_to_log_file(
        self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True
    ) -> None:
        """Write to the log file, and to the screen what is not nnU-Net's."""
        shown = also_print_to_console and not logger.isEnabledFor(logging.INFO)
        super().print_to_log_file(*args, also_print_to_console=shown, add_timestamp=add_timestamp)
        if also_print_to_console and not shown and self.local_rank == 0 and not self._is_quiet:
            writer = sys._getframe(1).f_globals["__name__"]
            message = " ".join(" ".join(map(str, args)).split())
            if not writer.startswith("nnunetv2.") or message.startswith("WARNING"):
                logger.info("%s", message)

    @contextmanager
    def said_before(self) -> Iterator[None]:
        """Print nothing in the block, which asks for something a second time."""
        self._is_quiet = True
        try:
            yield
        finally:
            self._is_quiet = False

    def on_train_start(self) -> None:
        """Begin; what the repeated epochs of a resumed run have left is removed."""
        super().on_train_start()
        if self.local_rank != 0:
            return
        folder = Path(self.output_folder)
        self._csv = CsvLog(folder, self.current_epoch)
        self._event_log = EventLog(folder, self.current_epoch)
        self._panels = PanelWriter(self, self.panel_every)
        if self.run_record is not None:
            self.run_record.add_network(self)
        if self.trackers:
            self._tracking = Tracking(self.trackers, folder)
            self._tracking.open(self.run_record.facts() if self.run_record is not None else {})
        if logger.isEnabledFor(logging.INFO):
            self._announce()
            self._display = EpochDisplay(self.current_epoch)

    def _announce(self) -> None:
        with self.said_before():
            train, validation = self.do_split()
        plan = self.configuration_manager
        logger.info(
            "Training on %d cases, validating on %d: %d epochs of %d batches, each with %d patches "
            "of %s; on %s",
            len(train),
            len(validation),
            self.num_epochs - self.current_epoch,
            self.num_iterations_per_epoch,
            plan.batch_size,
            " x ".join(map(str, plan.patch_size)),
            self.device.type,
        )
        logger.info(CITATION)

    def on_epoch_start(self) -> None:
        """Begin an epoch, and decide whether it is validated."""
        super().on_epoch_start()
        self._validated = self._is_to_be_validated()
        if self._display is not None:
            self._display.epoch_starts(
                self.current_epoch,
                self.num_epochs,
                self.num_iterations_per_epoch + self._validated * self.num_val_iterations_per_epoch,
                self.configuration_manager.batch_size,
            )

    def _is_to_be_validated(self) -> bool:
        # Without a best value, which a new stage of training forgets, there is nothing to carry on.
        number = self.current_epoch + 1
        is_due = number % self.val_every == 0 or number >= self.num_epochs
        return is_due or self._best_ema is None

    def on_train_epoch_start(self) -> None:
        """Begin the training batches."""
        super().on_train_epoch_start()
        self._training_starts = time.monotonic()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Train on a batch and move the bar."""
        result = super().train_step(batch)
        if self._display is not None:
            rate = self.optimizer.param_groups[0]["lr"]
            self._display.batch_trained(float(np.mean(result["loss"])), rate)
        return result

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """End the training batches."""
        self._training_seconds = time.monotonic() - self._training_starts
        super().on_train_epoch_end(train_outputs)

    def on_validation_epoch_start(self) -> None:
        """Begin the validation batches, of which there are none in most epochs if so asked."""
        super().on_validation_epoch_start()
        self._validation_batches = self.num_val_iterations_per_epoch
        if not self._validated:
            self.num_val_iterations_per_epoch = 0

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Validate on a batch and move the bar."""
        result = super().validation_step(batch)
        if self._display is not None:
            self._display.batch_validated()
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """End the validation batches; without any, the values of the epoch before stand."""
        self.num_val_iterations_per_epoch = self._validation_batches
        if self._validated:
            super().on_validation_epoch_end(val_outputs)
            return
        # Not through nnU-Net's MetaLogger, which would move the average on with the same value.
        log = self.logger.local_logger
        for key in ("mean_fg_dice", "ema_fg_dice", "dice_per_class_or_region", "val_losses"):
            log.log(key, log.get_value(key, -1), self.current_epoch)

    def on_epoch_end(self) -> None:
        """Keep the epoch's figures, then save checkpoints, so that none lacks its row."""
        if self.local_rank != 0:
            super().on_epoch_end()
            return
        result = self._result()
        self._csv.append(result)
        self._event_log.append(result)
        self._seconds_of_epochs += result.seconds
        best_before = self._best_ema
        with self._plotting_seldom():
            super().on_epoch_end()
        if self._display is not None:
            is_best = self._best_ema is not best_before
            self._display.epoch_ends(result, validated=self._validated, is_best=is_best)
        self._report(result)

    def _report(self, result: EpochResult) -> None:
        """Tell of an epoch what is not needed to go on after it."""
        if self._panels is not None:
            self._panels.epoch_ends(result.epoch)
        if self.run_record is not None:
            self.run_record.update(
                epochs_done=result.epoch, peak_memory_bytes=peak_memory(self.device)
            )
        if self._tracking is not None:
            self._tracking.log(named_metrics(result), result.epoch)

    def on_train_end(self) -> None:
        """End with a drawing of all epochs."""
        super().on_train_end()
        if self.local_rank == 0:
            self._event_log.close()
            if not self._is_plotted:
                self.logger.plot_progress_png(self.output_folder)
        self._stop_display()

    def stop_watching(self, *, failed: bool) -> None:
        """Take the bar away and tell the trackers how the run has ended."""
        self._stop_display()
        if self._tracking is not None:
            self._tracking.close(failed=failed)
            self._tracking = None

    def note_validation(self) -> None:
        """Tell record and trackers how the trained network does on whole images."""
        summary = Path(self.output_folder) / "validation" / "summary.json"
        if self.local_rank != 0 or not summary.is_file():
            return
        means = read_json(summary)["foreground_mean"]
        if self.run_record is not None:
            self.run_record.update(validation=means)
        if self._tracking is not None:
            figures = {f"validation/{name}": float(value) for name, value in means.items()}
            self._tracking.log(figures, self.current_epoch + 1)

    def _stop_display(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None

    def _result(self) -> EpochResult:
        log = self.logger.get_value
        train_seconds = max(self._training_seconds, 1e-9)
        images = self.num_iterations_per_epoch * self.configuration_manager.batch_size
        peak = peak_memory(self.device)
        classes = log("dice_per_class_or_region", -1)
        return EpochResult(
            epoch=self.current_epoch + 1,
            train_loss=float(log("train_losses", -1)),
            val_loss=float(log("val_losses", -1)),
            pseudo_dice=float(log("mean_fg_dice", -1)),
            pseudo_dice_of_classes=dict(zip(self._class_names(), map(float, classes), strict=True)),
            ema_pseudo_dice=float(log("ema_fg_dice", -1)),
            learning_rate=float(log("lrs", -1)),
            seconds=time.time() - log("epoch_start_timestamps", -1),
            images_per_second=images / train_seconds,
            skipped_batches=self.skipped_in_epoch,
            peak_memory_mib=None if peak is None else peak / 2**20,
        )

    def _class_names(self) -> list[str]:
        """Return the names of the classes in the order of nnU-Net's Dice."""
        manager = self.label_manager
        names = {
            tuple(value) if isinstance(value, list) else value: name
            for name, value in self.dataset_json["labels"].items()
        }
        labels = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        return [re.sub(r"[^\w.-]+", "_", names.get(label, str(label))) for label in labels]

    @contextmanager
    def _plotting_seldom(self) -> Iterator[None]:
        """Let nnU-Net draw progress.png only as long as that takes little of the time."""
        draw = self.logger.plot_progress_png
        self._is_plotted = self._seconds_of_plots <= SHARE_FOR_PLOTTING * self._seconds_of_epochs

        def draw_and_count(folder: str) -> None:
            start = time.monotonic()
            draw(folder)
            self._seconds_of_plots += time.monotonic() - start

        def draw_nothing(folder: str) -> None:
            pass

        self.logger.plot_progress_png = draw_and_count if self._is_plotted else draw_nothing
        try:
            yield
        finally:
            del self.logger.plot_progress_png
