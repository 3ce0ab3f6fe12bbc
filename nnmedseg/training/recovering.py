"""Going back to good weights, and what is remembered of a training's faults."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnmedseg.errors import WeightsError
from nnmedseg.files import read_json, write_json
from nnmedseg.networks.frozen import frozen_weights_in
from nnmedseg.training.checkpoints import LATEST, newest_readable
from nnmedseg.training.nonfinite import FaultCounter
from nnmedseg.training.precision import resolved_precision, safer_precision, safest
from nnmedseg.training.pretrained import unwrapped
from nnmedseg.training.resuming import ResumableTrainer, weights_of
from nnmedseg.training.settings import RUN_FILE


class RecoveringTrainer(ResumableTrainer):
    """Knows good weights to go back to, and keeps a record of faults.

    Attributes:
        precision: The recipe's; from `initialize` on ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        images_at_once: Largest part of a batch that has fitted into memory, or None for all.
        skipped_batches: Of the whole training.
        skipped_in_epoch: Of the epoch whose training has ended last.
        events: What was done about faults: dictionaries with ``time``, ``epoch`` and ``event``.
            Also in the checkpoints and in ``run.json``.
    """

    precision: str = "mixed"
    images_at_once: int | None = None
    skipped_batches: int = 0
    skipped_in_epoch: int = 0
    events: list[dict[str, Any]]
    _faults: FaultCounter
    _weights_at_start: Mapping[str, Any] | None = None

    def initialize(self) -> None:
        """Build network, optimiser and loss.

        Raises:
            UserError: The device does not compute in the recipe's precision.
        """
        self.events = []
        self._faults = FaultCounter()
        self._compute_in(resolved_precision(self.precision, self.device))
        super().initialize()

    def on_train_start(self) -> None:
        """Begin; the starting weights are kept until there is a checkpoint to go back to."""
        super().on_train_start()
        if self.current_epoch == 0:
            weights = weights_of(unwrapped(self.network))
            self._weights_at_start = {
                name: value.cpu().clone() if isinstance(value, torch.Tensor) else value
                for name, value in weights.items()
            }

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Average the losses of the epoch's batches that were not skipped."""
        self.skipped_in_epoch = self._faults.end_epoch()
        if self.skipped_in_epoch:
            self.print_to_log_file(
                f"Skipped batches: {self.skipped_in_epoch} of {len(train_outputs)}"
            )
        trained_on = [output for output in train_outputs if not np.isnan(output["loss"])]
        super().on_train_epoch_end(trained_on or train_outputs)

    def on_epoch_end(self) -> None:
        """End an epoch; once there is a checkpoint, the starting weights can go."""
        super().on_epoch_end()
        if (Path(self.output_folder) / LATEST).is_file():
            self._weights_at_start = None

    def _go_back(self) -> None:
        """Go back to weights that were good, and compute in safer numbers from now on."""
        origin = self._restore_weights()
        before, after = self.precision, safer_precision(self.precision, self.device)
        self._compute_in(after)
        change = (
            f"{after} instead of {before} from now on"
            if after != before
            else "precision and learning rate stay as they are"
        )
        self._note(
            f"three batches in a row were not finite: weights and optimiser state are again those "
            f"of {origin}; {change}",
            precision=after,
        )

    def _compute_in(self, precision: str) -> None:
        self.precision = precision
        if precision != "fp16":
            self.grad_scaler = None

    def _restore_weights(self) -> str:
        """Load the weights and optimiser state to go back to; return where they come from."""
        try:
            found = newest_readable(Path(self.output_folder))
        except WeightsError:
            found = None
        weights, state = self._weights_at_start, None
        if found is not None:
            weights, state = found[1]["network_weights"], found[1]["optimizer_state"]
        if weights is None:
            return "now, there being no checkpoint to go back to"
        with frozen_weights_in(self.output_folder_base):
            unwrapped(self.network).load_state_dict(weights)
        now = self.optimizer.state_dict()
        if state is not None and _sizes(state) == _sizes(now):
            # The learning rate goes on.
            self.optimizer.load_state_dict({**now, "state": state["state"]})
        else:
            self.optimizer.state.clear()
        return "the start" if found is None else f"epoch {found[1]['current_epoch']}"

    def checkpoint_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the weights."""
        guard = {
            "precision": self.precision,
            "images_at_once": self.images_at_once,
            "skipped_batches": self.skipped_batches,
            "events": self.events,
        }
        return {**super().checkpoint_state(), "guard": guard}

    def restore_state(self, content: Mapping[str, Any]) -> None:
        """Go on in parts and in a precision that have proved to work."""
        super().restore_state(content)
        guard = content.get("guard", {})
        self.images_at_once = guard.get("images_at_once")
        self.skipped_batches = guard.get("skipped_batches", 0)
        self.events = guard.get("events", [])
        self._compute_in(safest(self.precision, guard.get("precision", self.precision)))
        self._write_events()

    def _note(self, event: str, **facts: Any) -> None:
        """Say what was done about a fault, and record it."""
        self.print_to_log_file(event)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.events.append({"time": now, "epoch": self.current_epoch, "event": event, **facts})
        self._write_events()

    def _write_events(self) -> None:
        record = Path(self.output_folder) / RUN_FILE
        if self.events and self.local_rank == 0 and record.is_file():
            write_json({**read_json(record), "events": self.events}, record)


def _sizes(state: Mapping[str, Any]) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]
