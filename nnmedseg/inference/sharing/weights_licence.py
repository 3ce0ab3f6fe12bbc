"""On what terms the weights of a model may be used, as far as that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnmedseg.networks import list_networks, network_facts
from nnmedseg.nnunet.plans_files import resolved_configuration

_OWN = "Weights trained with nnmedseg belong to whoever trained them; the terms of the data apply."


def licence_of_weights(plans: Mapping[str, Any], configuration: str) -> str:
    """Return a note on the terms of the weights of a planned network.

    Args:
        plans: Content of ``plans.json``.
        configuration: One of its configurations.
    """
    planned = resolved_configuration(plans["configurations"], configuration)
    network = planned["architecture"]["arch_kwargs"].get("network")
    if network not in list_networks():
        return _OWN
    facts = network_facts(network)
    return f"{_OWN} On the published weights of {facts.short_title}: {facts.weights_licence}"
