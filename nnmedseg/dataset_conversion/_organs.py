"""The organs of the Synapse set: names, orders, and whether volumes contradict an order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnmedseg.data.synapse import ORGANS

BTCV_ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
"""Names of the labels 1 to 13 of the original annotation."""

ORDERS: Mapping[str, Sequence[str]] = {
    "transunet": ORGANS,
    "btcv": tuple(organ for organ in BTCV_ORGANS if organ in ORGANS),
}
"""The two orders of the eight organs that are in use, by the names of the presets."""

TYPICAL_VOLUMES = {
    "aorta": 95.0,
    "gallbladder": 27.0,
    "left kidney": 170.0,
    "right kidney": 165.0,
    "liver": 1550.0,
    "pancreas": 80.0,
    "spleen": 230.0,
    "stomach": 380.0,
}
"""Rough volumes in adults (mL), to tell orders apart; only their ratios are used."""

CLEARLY_BETTER = 2.0
"""By how much a fit must be better: the square of a factor of 4 between two volumes, in logs."""


def doubts_about(labels: Mapping[str, int], voxels: Mapping[int, int]) -> list[str]:
    """Say in what the organs' volumes contradict their names.

    Args:
        labels: Label of each organ.
        voxels: Voxels of each label, summed over the cases.

    Returns:
        One sentence for each contradiction.
    """
    doubts = []
    names = {label: name for name, label in labels.items()}
    organs = {label: count for label, count in voxels.items() if label and count}
    if "liver" in labels and organs:
        largest = max(organs, key=lambda label: organs[label])
        if largest != labels["liver"]:
            doubts.append(
                f"The largest organ by far should be the liver, label {labels['liver']}, but it is "
                f"label {largest} ({names.get(largest, 'without a name')})."
            )
    if set(names.values()) - {"background"} == set(ORGANS):
        given = [names[label] for label in sorted(names) if label]
        misfits = {name: _misfit(order, organs) for name, order in ORDERS.items()}
        best = min(misfits, key=lambda name: misfits[name])
        if misfits[best] + CLEARLY_BETTER < _misfit(given, organs):
            doubts.append(
                f"The organs' volumes fit the order --labels {best} "
                f"({', '.join(ORDERS[best])}) better than the one used ({', '.join(given)})."
            )
    return doubts


def _misfit(order: Sequence[str], voxels: Mapping[int, int]) -> float:
    """Return the sum of squared differences of the log volumes, up to a common factor."""
    logs = [
        math.log(voxels[label] / TYPICAL_VOLUMES[name])
        for label, name in enumerate(order, start=1)
        if label in voxels
    ]
    mean = sum(logs) / max(1, len(logs))
    return sum((value - mean) ** 2 for value in logs)
