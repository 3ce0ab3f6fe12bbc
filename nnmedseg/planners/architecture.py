"""What is to be planned for: a trainer's network, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A trainer's network.

    Attributes:
        plans_name: Name of the plans file without its ending.
        trainer: Class name of the trainer that uses the plans.
        network: Registered network, or ``None`` for nnU-Net's own U-Net.
        options: Options of the network that differ from its defaults.
        recipe: Training settings that the trainer finds in the plans.
        paper_recipes: Those of configuration ``2d_paper``: under ``""`` for all data, under
            ``"several_classes"`` for more than one foreground class, under the name of a data set
            for that alone.
    """

    plans_name: str
    trainer: str = ""
    network: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    paper_recipes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def optimizer(self) -> str:
        """The optimiser, which decides how much memory its state takes."""
        return str(self.recipe.get("optimizer", "sgd"))
