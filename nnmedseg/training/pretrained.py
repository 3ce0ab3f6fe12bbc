"""The weights that a training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnmedseg.errors import WeightsError
from nnmedseg.files import hash_of_file
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.weights import (
    describe_encoder_weights,
    load_encoder_weights,
    starts_from_pretrained,
)

PAPER = "paper"
"""The weights that the paper starts from, if it does."""

NONE = "none"
"""Random weights."""


def load_pretrained(network: nn.Module, choice: str) -> str:
    """Load the weights that a network starts from.

    Args:
        network: As nnU-Net's trainer has it, compiled or distributed.
        choice: ``"paper"``, ``"none"`` or a file.

    Returns:
        What was done, as a sentence.

    Raises:
        WeightsError: The weights are not at hand, or do not fit.
        NotFoundError: A file was given, but the network's paper starts from random weights.
    """
    planned = unwrapped(network)
    if not isinstance(planned, PlannedNetwork):
        if choice in (PAPER, NONE):
            return "Starting from random weights"
        raise WeightsError(
            "nnU-Net's own network starts from no encoder weights",
            where="--encoder-weights",
            mend="leave the option out",
        )
    name = planned.network_name
    if choice == NONE or (choice == PAPER and not starts_from_pretrained(name)):
        return "Starting from random weights"
    try:
        report = load_encoder_weights(
            name, planned.network, None if choice == PAPER else Path(choice)
        )
    except WeightsError as error:
        if choice != PAPER:
            raise
        raise WeightsError(
            error.what,
            where=error.where,
            mend=f"{error.mend} with --encoder-weights FILE, or start from random weights, unlike "
            "the paper, with --encoder-weights none",
        ) from error
    return f"Starting from pretrained weights: {len(report.loaded)} entries loaded"


def starting_point(planned: PlannedNetwork, choice: str) -> dict[str, Any] | None:
    """Return what tells the weights that a network has started from, or ``None`` for random ones.

    Args:
        planned: The network.
        choice: As in `load_pretrained`.

    Returns:
        ``file``, ``bytes`` and ``sha256`` of a user's file; of the paper's weights ``official``,
        where they come from.
    """
    if choice == NONE or (choice == PAPER and not starts_from_pretrained(planned.network_name)):
        return None
    if choice == PAPER:
        return {"official": describe_encoder_weights(planned.network_name, planned.network)}
    path = Path(choice)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": hash_of_file(path)}


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that a trainer has compiled or distributed."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    return getattr(network, "_orig_mod", network)
