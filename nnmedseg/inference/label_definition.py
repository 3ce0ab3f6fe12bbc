"""What the numbers of masks and the channels of probabilities mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager


@dataclass(frozen=True)
class LabelDefinition:
    """The labels of a model.

    Attributes:
        labels: Value, or values of a region, by name; background among them.
        regions_class_order: Of regions the values that nnU-Net writes, in turn.
    """

    labels: dict[str, Any]
    regions_class_order: list[int] | None = None

    @classmethod
    def of(cls, dataset: dict[str, Any]) -> LabelDefinition:
        """Return that of a ``dataset.json``."""
        return cls(dataset["labels"], dataset.get("regions_class_order"))

    @cached_property
    def manager(self) -> LabelManager:
        """What nnU-Net makes of it."""
        return LabelManager(self.labels, self.regions_class_order)

    @property
    def channel_names(self) -> list[str]:
        """Names of the classes or regions that a model gives probabilities of, in order."""
        numbers = {
            name: np.atleast_1d(label) for name, label in self.labels.items() if name != "ignore"
        }
        if any(len(label) > 1 for label in numbers.values()):
            return [name for name, label in numbers.items() if label.any()]
        return sorted(numbers, key=lambda name: int(numbers[name][0]))

    def agrees_with(self, other: LabelDefinition) -> bool:
        """Tell whether probabilities of both mean the same, channel by channel."""
        same_order = list(self.labels) == list(other.labels) or not self.manager.has_regions
        return (
            self.labels == other.labels
            and self.regions_class_order == other.regions_class_order
            and same_order
        )
