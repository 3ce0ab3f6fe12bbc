"""nnU-Net's trainer with checkpoints from which a run goes on as if it had never stopped."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnmedseg.errors import UserError, WeightsError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.frozen import frozen_weights_in
from nnmedseg.training.checkpoints import (
    BEST,
    LATEST,
    PREVIOUS,
    link_as_latest,
    only_plain_values,
    plain,
    read_checkpoint,
    write_checkpoint,
)
from nnmedseg.training.pretrained import unwrapped


class ResumableTrainer(nnUNetTrainer):
    """Writes nnU-Net's checkpoints, with the states of schedule and random generators added.

    nnU-Net's own commands read them; they pass over what they do not know.
    """

    save_every: int
    network: Any
    grad_scaler: Any
    _random_states: Mapping[str, Any] | None = None

    def on_train_start(self) -> None:
        """Begin; a resumed run draws the random numbers that the earlier one would have drawn."""
        super().on_train_start()
        if self._random_states is not None:
            set_random_states(self._random_states)

    def on_epoch_end(self) -> None:
        """End the epoch with the latest checkpoint last, so that it knows of the best one."""
        every, self.save_every = self.save_every, self.num_epochs + 1
        best_before = self._best_ema
        try:
            super().on_epoch_end()
        finally:
            self.save_every = every
        if self.current_epoch % every == 0 and self.current_epoch < self.num_epochs:
            self._save_latest(is_best=self._best_ema is not best_before)

    def _save_latest(self, *, is_best: bool) -> None:
        """Save the state after an epoch; that of the best epoch is in a file already."""
        folder = Path(self.output_folder)
        if is_best and self.local_rank == 0 and not self.disable_checkpointing:
            with contextlib.suppress(OSError):
                link_as_latest(folder / BEST)
                return
        self.current_epoch -= 1  # nnU-Net saves before it counts
        try:
            self.save_checkpoint(str(folder / LATEST))
        finally:
            self.current_epoch += 1

    def on_train_end(self) -> None:
        """Write the final checkpoint and delete those it replaces."""
        super().on_train_end()
        if self.local_rank == 0:
            (Path(self.output_folder) / PREVIOUS).unlink(missing_ok=True)

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            UserError: The disk is full.
        """
        if self.local_rank == 0 and not self.disable_checkpointing:
            network = unwrapped(self.network)
            if isinstance(network, PlannedNetwork) and network.network.frozen_parts:
                # First, so that no checkpoint lacks what it was written without.
                self._keep_frozen_weights(network)
            write_checkpoint(
                {"network_weights": weights_of(network), **plain(self.checkpoint_state())},
                Path(filename),
            )

    def checkpoint_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the weights: what nnU-Net saves, and forgets."""
        scaler = self.grad_scaler
        return {
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": scaler.state_dict() if scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "scheduler_state": self.lr_scheduler.state_dict(),
            "random_states": random_states(self.device),
        }

    def _keep_frozen_weights(self, network: PlannedNetwork) -> None:
        path = Path(self.output_folder_base) / network.frozen_note()["file"]
        if not path.is_file():
            write_checkpoint(network.frozen_weights(), path)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Go on from a checkpoint of ours or nnU-Net's; no code in it is run.

        Raises:
            WeightsError: The file is damaged, holds code, or is of another network.
        """
        path = Path(filename_or_checkpoint)
        content = read_checkpoint(path)
        try:
            with only_plain_values(), frozen_weights_in(self.output_folder_base):
                super().load_checkpoint(str(path))
        except UserError:
            raise
        except (RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(
                f"the checkpoint does not fit the network and optimiser of the plans: {error}",
                where=path,
                mend="plan as it was when this was trained, or train again with --overwrite",
            ) from error
        self.restore_state(content)

    def restore_state(self, content: Mapping[str, Any]) -> None:
        """Take over what nnU-Net passes over in a checkpoint."""
        if "scheduler_state" in content:
            self.lr_scheduler.load_state_dict(content["scheduler_state"])
        self._random_states = content.get("random_states")


def weights_of(network: nn.Module) -> Mapping[str, Any]:
    """Return what a checkpoint holds of a network: of frozen parts only where they lie."""
    return (
        network.trained_weights() if isinstance(network, PlannedNetwork) else network.state_dict()
    )


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators that training draws from."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - augmentation's generator
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to the states; those of a device that is not there are passed over."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
