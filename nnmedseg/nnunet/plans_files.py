"""Reading plans files without nnU-Net's classes, which import PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def resolved_configuration(
    configurations: Mapping[str, Mapping[str, Any]], name: str
) -> dict[str, Any]:
    """Return a configuration with all that it inherits; its own entries win, as in nnU-Net.

    Args:
        configurations: Those of a plans file.
        name: One of them.
    """
    configuration = dict(configurations[name])
    parent = configuration.pop("inherits_from", None)
    if parent is None:
        return configuration
    return {**resolved_configuration(configurations, parent), **configuration}
