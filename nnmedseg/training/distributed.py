"""nnU-Net's trainer over several processes, on any kind of device and any number of machines.

nnU-Net's own way is for the GPUs of one machine. What it does with the batch, the loss and the
logged numbers is kept; the device of each process and the distributed network are ours.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from nnmedseg.errors import UserError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.nnunet import captured_output
from nnmedseg.training.group import check_batch_size, gathered, in_group
from nnmedseg.training.resuming import ResumableTrainer, random_states

logger = logging.getLogger(__name__)


class DistributedTrainer(ResumableTrainer):
    """Trains one network in all processes of a group; on its own it is nnU-Net's trainer.

    ``local_rank``, as nnU-Net calls it, is the rank among all processes: 0 writes the files.

    Attributes:
        random_states_of_ranks: After an epoch, the states of all processes' random generators.
    """

    is_ddp: bool
    output_folder_base: str
    random_states_of_ranks: list[Mapping[str, Any]]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own signature
    ):
        with _quiet_where_wrong():
            super().__init__(plans, configuration, fold, dataset_json, device)
        self.random_states_of_ranks = []
        if self.is_ddp:
            # nnU-Net takes the CUDA device whose number is the rank.
            self.device = device
            if device.type != "cuda":
                self.grad_scaler = None

    def initialize(self) -> None:
        """Build network, optimiser and loss, and distribute the network.

        Raises:
            UserError: The batch cannot be divided among so many processes.
        """
        with self._taken_for(distributed=False):
            super().initialize()
        if self.is_ddp:
            if self.device.type != "cuda":
                check_batch_norms(self.network, self.batch_size, dist.get_world_size())
            self.network = distributed(
                self.network,
                self.device,
                some_unused=leaves_some_unused(self.network, self.enable_deep_supervision),
            )

    def _set_batch_size_and_oversample(self) -> None:
        with self._taken_for(distributed=in_group()), captured_output(logger):
            if self.is_ddp:
                check_batch_size(self.configuration_manager.batch_size, dist.get_world_size())
            super()._set_batch_size_and_oversample()

    def _build_loss(self) -> nn.Module:
        with self._taken_for(distributed=in_group()):
            return super()._build_loss()

    @contextmanager
    def _taken_for(self, *, distributed: bool) -> Iterator[None]:
        """Let nnU-Net leave out, or do, what it does when there are several processes."""
        before, self.is_ddp = self.is_ddp, distributed
        try:
            yield
        finally:
            self.is_ddp = before

    def on_train_start(self) -> None:
        """Prepare the training; nnU-Net's copies of the plans are written by one process only."""
        if self.local_rank == 0:
            super().on_train_start()
            return
        folder = self.output_folder_base
        with tempfile.TemporaryDirectory() as scratch:
            self.output_folder_base = scratch
            try:
                super().on_train_start()
            finally:
                self.output_folder_base = folder

    def on_epoch_end(self) -> None:
        """End an epoch; its checkpoints hold the random states of all processes.

        When this returns they are written, and may be read by all.
        """
        if self.is_ddp:
            self.random_states_of_ranks = gathered(random_states(self.device))
        super().on_epoch_end()
        if self.is_ddp:
            dist.barrier()

    def checkpoint_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the weights."""
        return {**super().checkpoint_state(), "random_states_of_ranks": self.random_states_of_ranks}

    def restore_state(self, content: Mapping[str, Any]) -> None:
        """Take over a checkpoint's state; a process that it knows nothing of draws as from anew."""
        super().restore_state(content)
        if self.local_rank > 0:
            states = content.get("random_states_of_ranks", [])
            known = self.local_rank < len(states)
            self._random_states = states[self.local_rank] if known else None

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate; several processes divide the cases among them, and one writes the metrics."""
        from nnmedseg.training.validation import validate  # noqa: PLC0415 - needs this class

        planned = self.configuration_manager
        if not self.is_ddp or planned.next_stage_names or planned.previous_stage_name:
            super().perform_actual_validation(save_probabilities)
            return
        self.set_deep_supervision_enabled(False)
        validate(self, save_probabilities)
        self.set_deep_supervision_enabled(self.enable_deep_supervision)


@contextmanager
def _quiet_where_wrong() -> Iterator[None]:
    """Keep back what nnU-Net says of several processes, taking all for those of a machine's GPUs.

    It makes a scaler for CUDA in any case, which warns on other devices.
    """
    with captured_output(logger) if in_group() else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GradScaler is enabled, but CUDA is not")
        yield


def has_batch_norms(network: nn.Module) -> bool:
    """Tell whether images of a batch are normalised together."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def check_batch_norms(network: nn.Module, batch_size: int, processes: int) -> None:
    """Refuse batch norms over a single image, where each process normalises on its own.

    Args:
        network: Before it is distributed.
        batch_size: Of this process.
        processes: How many there are.

    Raises:
        UserError: This process has one image in a batch, and the network has batch norms.
    """
    if batch_size == 1 and has_batch_norms(network):
        raise UserError(
            "on CPUs a network with batch norms needs two images of a batch in each process",
            where=f"{processes} processes",
            mend=f"use fewer processes, or --batch-size {2 * processes} or more",
        )


def distributed(
    network: nn.Module, device: torch.device, *, some_unused: bool
) -> DistributedDataParallel:
    """Return a network whose gradients are those of all processes' batches together.

    Batch norms become `SyncBatchNorm`, which takes the statistics of the whole batch. PyTorch has
    it for GPUs only: on CPUs each process normalises by its own share of the batch, and the running
    statistics are those of the first process.

    Args:
        network: On its device.
        device: The device of this process.
        some_unused: Whether some parameters that could be trained take no part in the loss, which
            costs a look at the graph in every step.
    """
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif has_batch_norms(network):
        logger.info("Batch norms take each process's share of the batch: on CPUs PyTorch has no "
                    "SyncBatchNorm")  # fmt: skip
    return DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=some_unused,
    )


def leaves_some_unused(network: nn.Module, deep_supervision: bool) -> bool:
    """Tell whether training leaves parameters without a gradient.

    Heads of outputs that the loss does not take are such: auxiliary ones when the loss is
    nnU-Net's, and those of lower resolutions without deep supervision.

    Args:
        network: As the trainer has built it, maybe compiled.
        deep_supervision: Whether nnU-Net's trainer switches its own network's on.
    """
    network = getattr(network, "_orig_mod", network)
    if not isinstance(network, PlannedNetwork):
        return not deep_supervision
    if network.own_outputs_in_training:
        return False
    takes_all = network.auxiliary_in_training or deep_supervision
    return bool(network.network.auxiliary_outputs) or not takes_all
