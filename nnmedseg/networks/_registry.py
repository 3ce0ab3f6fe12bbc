"""The networks by name; each registers itself where it is defined."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks.cards._card import NetworkFacts

_Network = TypeVar("_Network", bound=type[SegmentationNetwork])


@dataclass(frozen=True)
class _Entry:
    network: type[SegmentationNetwork]
    facts: NetworkFacts


_entries: dict[str, _Entry] = {}


def register_network(name: str, facts: NetworkFacts) -> Callable[[_Network], _Network]:
    """Register the decorated class under ``name``."""

    def register(network: _Network) -> _Network:
        if name in _entries:
            raise ValueError(f"two networks are called {name!r}")
        _entries[name] = _Entry(network, facts)
        return network

    return register


def list_networks() -> list[str]:
    """All names, sorted."""
    return sorted(_entries)


def get_network_class(name: str) -> type[SegmentationNetwork]:
    """The class registered under ``name``; raises NotFoundError, naming the nearest known name."""
    return _entry(name).network


def network_facts(name: str) -> NetworkFacts:
    """What is known about a network; raises NotFoundError for an unknown name."""
    return _entry(name).facts


def network_options(name: str) -> dict[str, Any]:
    """The options of a network and their default values, which are the paper's."""
    parameters = inspect.signature(get_network_class(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def create_network(
    name: str, input_channels: int, num_classes: int, **options: Any
) -> SegmentationNetwork:
    """Build a network.

    Args:
        name: One of `list_networks`.
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        **options: Options of the network, see `network_options`.

    Raises:
        NotFoundError: No network has this name.
        UserError: The network has no such option.
    """
    network = get_network_class(name)
    known = network_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"The network {name!r} has no option {unknown[0]!r}",
            where=f"options {', '.join(sorted(options))}",
            mend=f"use some of: {', '.join(known)}",
        )
    return network(input_channels, num_classes, **options)


def _entry(name: str) -> _Entry:
    if name not in _entries:
        near = difflib.get_close_matches(name.lower(), _entries, n=1, cutoff=0.0)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(
            f"There is no network {name!r}",
            mend=f"{guess}Known are: {', '.join(list_networks())}",
        )
    return _entries[name]
