"""The papers' networks, by name: ``create_network("rosper", input_channels=3, num_classes=2)``.

A new network is one file that registers its class, and one line here that imports it.
"""

from nnmedseg.networks import asc, condseg, condseg_stage1, heteromedseg, promise, rosper
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
    "condseg",
    "condseg_stage1",
    "create_network",
    "get_network_class",
    "heteromedseg",
    "list_networks",
    "network_facts",
    "network_options",
    "promise",
    "register_network",
    "rosper",
]
