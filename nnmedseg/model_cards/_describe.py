"""A network's facts, and what is counted and read from its code, in one dictionary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from nnmedseg.errors import NotFoundError
from nnmedseg.losses import loss_forms
from nnmedseg.model_cards._docstrings import option_meanings
from nnmedseg.networks import (
    SegmentationNetwork,
    create_network,
    get_network_class,
    network_facts,
    network_options,
)
from nnmedseg.networks.cards._card import NetworkFacts
from nnmedseg.ops.flops import count_flops


def summarise_network(name: str) -> dict[str, Any]:
    """What a table says of a network.

    Parameters and operations are counted on PyTorch's meta device, without memory for weights or
    features, at the paper's image size, channels and classes. ``flops`` has a multiply-add as two
    operations, and covers all outputs that the paper trains.

    Raises:
        NotFoundError: No network has this name.
    """
    facts = network_facts(name)
    return _summary(name, facts, _on_meta_device(name, facts))


def describe_network(name: str) -> dict[str, Any]:
    """Everything that is known of a network, ready for JSON.

    Raises:
        NotFoundError: No network has this name.
    """
    facts = network_facts(name)
    network = _on_meta_device(name, facts)
    summary = _summary(name, facts, network)
    network.deep_supervision = False
    return summary | {
        "flops_of_the_main_output": count_flops(network, _image_shape(facts)),
        "title": facts.title,
        "authors": facts.authors,
        "citation": facts.citation,
        "published_in": facts.published_in,
        "repository": facts.repository,
        "weights_licence": facts.weights_licence,
        "size_divisor": network.size_divisor,
        "min_size": network.min_size,
        "options": _options(name),
        "published_cost": asdict(facts.published_cost),
        "imports_checkpoints": _imports_checkpoints(name),
        "starts_from": facts.starts_from,
        "losses": [{"name": loss, "forms": list(loss_forms(loss))} for loss in facts.losses],
        "results": [asdict(result) for result in facts.results],
        "results_notes": list(facts.results_notes),
        "notes": list(facts.notes),
    }


def _on_meta_device(name: str, facts: NetworkFacts) -> SegmentationNetwork:
    with torch.device("meta"):
        return create_network(name, facts.input_channels, facts.num_classes).eval()


def _summary(name: str, facts: NetworkFacts, network: SegmentationNetwork) -> dict[str, Any]:
    parameters = list(network.parameters())
    return {
        "name": name,
        "short_title": facts.short_title,
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "flops": count_flops(network, _image_shape(facts)),
        "image_size": list(facts.image_size),
        "input_channels": facts.input_channels,
        "num_classes": facts.num_classes,
        "licence": facts.licence,
    }


def _image_shape(facts: NetworkFacts) -> tuple[int, int, int, int]:
    return (1, facts.input_channels, *facts.image_size)


def _options(name: str) -> list[dict[str, Any]]:
    meanings = option_meanings(get_network_class(name))
    return [
        {
            "name": option,
            "default": list(default) if isinstance(default, tuple) else default,
            "meaning": meanings[option],
        }
        for option, default in network_options(name).items()
    ]


def _imports_checkpoints(name: str) -> bool:
    from nnmedseg.weights._importer import find_importer  # noqa: PLC0415 - not for the table

    try:
        find_importer(name)
    except NotFoundError:
        return False
    return True
