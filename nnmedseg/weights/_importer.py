"""Turning a state dict with the authors' names into one of our networks, or saying why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnmedseg.errors import NotFoundError, WeightsError, list_some
from nnmedseg.networks import SegmentationNetwork, create_network

_WRAPPERS = ("model_state_dict", "state_dict")


@dataclass(frozen=True)
class Importer:
    """How the authors' checkpoints of one network become ours.

    Args:
        network: The network's registered name.
        arguments: Reads the arguments of `create_network` (``input_channels``, ``num_classes``
            and options) from the shapes of the authors' entries; a ``KeyError`` in it is reported
            as an entry that is missing.
        renames: Pairs of a regular expression and its replacement, applied in order to each of
            the authors' names; together they give our name.
        ignorable: Regular expressions of the authors' entries that no network needs.
    """

    network: str
    arguments: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    renames: tuple[tuple[str, str], ...]
    ignorable: tuple[str, ...] = field(default=())

    def needed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries that are not ignorable."""
        patterns = [re.compile(pattern) for pattern in self.ignorable]
        return {
            name: value
            for name, value in state.items()
            if not any(pattern.search(name) for pattern in patterns)
        }

    def our_name(self, name: str) -> str:
        """Our name of one of the authors' entries."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


_importers: dict[str, Importer] = {}


def register_importer(importer: Importer) -> Importer:
    """Make `from_reference` know an importer."""
    _importers[importer.network] = importer
    return importer


def from_reference(name: str, state_dict: Mapping[str, Any], **options: Any) -> SegmentationNetwork:
    """Build the network that a checkpoint of the authors belongs to, and load it strictly.

    Args:
        name: The network's registered name.
        state_dict: Tensors or NumPy arrays by the authors' names; also a dictionary that holds
            such a state dict as ``model_state_dict`` or ``state_dict``, and names that start with
            ``module.``.
        **options: Options of the network that shapes do not tell; they override what is read.

    Returns:
        The network in ``eval()``, with deep supervision on.

    Raises:
        NotFoundError: There is no importer for this network.
        WeightsError: Entries are missing, left over or of a wrong shape; all of them are listed.
    """
    if name not in _importers:
        raise NotFoundError(
            f"There is no importer of the authors' checkpoints for {name!r}",
            mend=f"use one of {', '.join(sorted(_importers))}",
        )
    importer = _importers[name]
    state = importer.needed(_unwrapped(state_dict))
    try:
        arguments = importer.arguments(state) | {"deep_supervision": True} | options
    except KeyError as error:
        raise WeightsError(
            f"This is no checkpoint of {name!r}: the entry {error} is missing",
            where=f"state dict with {list_some(sorted(state), 4) or 'no entries'}",
            mend="check that the file belongs to this network",
        ) from error
    network = create_network(name, **arguments)
    _load_strictly(network, {entry: importer.our_name(entry) for entry in state}, state)
    return network.eval()


def _unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(state_dict.get(wrapper), Mapping):
            return _unwrapped(state_dict[wrapper])
    return {
        name.removeprefix("module."): torch.from_numpy(np.array(value))
        if isinstance(value, np.ndarray | np.generic)
        else torch.as_tensor(value).detach()
        for name, value in state_dict.items()
    }


def _load_strictly(
    network: SegmentationNetwork, our_names: Mapping[str, str], state: Mapping[str, Tensor]
) -> None:
    wanted = network.state_dict()
    renamed = {our_names[name]: value for name, value in state.items()}
    missing = sorted(set(wanted) - set(renamed))
    left_over = sorted(name for name in state if our_names[name] not in wanted)
    wrong = [
        f"{name} {tuple(value.shape)} instead of {tuple(wanted[our_names[name]].shape)}"
        for name, value in state.items()
        if our_names[name] in wanted and value.shape != wanted[our_names[name]].shape
    ]
    if len(renamed) != len(state):
        raise ValueError("two of the authors' entries get the same name")
    found = {"missing": missing, "left over": left_over, "of a wrong shape": wrong}
    problems = [f"{len(what)} {kind}: {list_some(what)}" for kind, what in found.items() if what]
    if problems:
        raise WeightsError(
            f"The checkpoint does not fit {type(network).__name__}",
            where="; ".join(problems),
            mend="check that the file belongs to this network and to these options",
        )
    network.load_state_dict(renamed, strict=True)
