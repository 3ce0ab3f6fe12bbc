"""The papers' networks, by name: ``create_network("rosper", input_channels=3, num_classes=2)``.

A new network is one file that registers its class, and one line here that imports it.
"""

from nnmedseg.networks import asc, heteromedseg, rosper
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks._registry import (
    NetworkFacts,
    create_network,
    get_network_class,
    list_networks,
    network_facts,
    network_options,
    register_network,
)

__all__ = [
    "NetworkFacts",
    "SegmentationNetwork",
    "asc",
    "create_network",
    "get_network_class",
    "heteromedseg",
    "list_networks",
    "network_facts",
    "network_options",
    "register_network",
    "rosper",
]
