"""Turning a state dict with the authors' names into one of our networks, or saying why not."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnmedseg.errors import NotFoundError, WeightsError, list_some
from nnmedseg.networks import SegmentationNetwork, create_network

_log = logging.getLogger(__name__)

_WRAPPERS = ("model_state_dict", "state_dict", "model")

PROFILER_COUNTERS = (r"(^|\.)total_(ops|params)$", "counters of the profiler thop")
"""What thop leaves in every module that it has no rule for."""


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
        ignorable: Pairs of a regular expression of the authors' entries that no network needs and
            what they are, which is reported.
        transform: Changes entries before anything is read from them; called with the state dict
            (a copy, to be changed freely) and the options named in ``import_options``.
        import_options: Options of `from_reference` that are for ``transform``, not the network.
    """

    network: str
    arguments: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    renames: tuple[tuple[str, str], ...]
    ignorable: tuple[tuple[str, str], ...] = (PROFILER_COUNTERS,)
    transform: Callable[..., dict[str, Tensor]] | None = None
    import_options: tuple[str, ...] = ()

    def reason_to_ignore(self, name: str) -> str | None:
        """What an entry is that no network needs; ``None`` for one that is needed."""
        return next((what for pattern, what in self.ignorable if re.search(pattern, name)), None)

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


@dataclass(frozen=True)
class Imported:
    """A network with the authors' weights.

    Attributes:
        network: In ``eval()``, with deep supervision on.
        ignored: The authors' entries that no network needs, by what they are.
    """

    network: SegmentationNetwork
    ignored: Mapping[str, list[str]]


def from_reference(name: str, state_dict: Mapping[str, Any], **options: Any) -> SegmentationNetwork:
    """Build the network that a checkpoint of the authors belongs to, and load it strictly.

    Args:
        name: The network's registered name.
        state_dict: Tensors or NumPy arrays by the authors' names; also a dictionary that holds
            such a state dict as ``model_state_dict``, ``state_dict`` or ``model``, and names that
            start with ``module.``.
        **options: Options of the network that shapes do not tell; they override what is read.

    Returns:
        The network in ``eval()``, with deep supervision on.

    Raises:
        NotFoundError: There is no importer for this network.
        WeightsError: Entries are missing, left over or of a wrong shape; all of them are listed.
    """
    return import_reference(name, state_dict, **options).network


def import_reference(name: str, state_dict: Mapping[str, Any], **options: Any) -> Imported:
    """As `from_reference`, and say which entries of the checkpoint were ignored."""
    importer = find_importer(name)
    state = unwrapped(state_dict)
    if importer.transform is not None:
        own = {key: options.pop(key) for key in importer.import_options if key in options}
        state = importer.transform(state, **own)
    state, ignored = _sorted_out(importer, state)
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
    return Imported(network.eval(), ignored)


def find_importer(name: str) -> Importer:
    """The importer of a network; raises NotFoundError when there is none."""
    if name not in _importers:
        raise NotFoundError(
            f"There is no importer of the authors' checkpoints for {name!r}",
            mend=f"use one of {', '.join(sorted(_importers))}",
        )
    return _importers[name]


def _sorted_out(
    importer: Importer, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The entries that are needed, and those that are not by what they are."""
    needed: dict[str, Tensor] = {}
    ignored: dict[str, list[str]] = defaultdict(list)
    for name, value in state.items():
        reason = importer.reason_to_ignore(name)
        if reason is None:
            needed[name] = value
        else:
            ignored[reason].append(name)
    for reason, names in ignored.items():
        _log.info("ignored %d entries of the checkpoint: %s", len(names), reason)
    return needed, dict(ignored)


def unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the dictionaries and prefixes that savers add."""
    for wrapper in _WRAPPERS:
        if isinstance(state_dict.get(wrapper), Mapping):
            return unwrapped(state_dict[wrapper])
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
