"""How a network is trained, as data: the planner writes it, the trainer reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nnmedseg.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
TRAINING_TO_VALIDATION_ITERATIONS = 5  # nnU-Net's 250 to 50


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimiser and schedule inside nnU-Net's augmentation, loss and polynomial decay.

    Attributes:
        optimizer: ``"sgd"`` (Nesterov momentum 0.99, nnU-Net's) or ``"adamw"``.
        initial_lr: Learning rate of the first epoch.
        weight_decay: Decay of all parameters.
        epochs: Epochs; the learning rate falls to zero over them.
        iterations: Batches in an epoch.
    """

    optimizer: str = "sgd"
    initial_lr: float = 1e-2
    weight_decay: float = 3e-5
    epochs: int = 1000
    iterations: int = 250

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f"unknown optimizer {self.optimizer!r}",
                where="the recipe in the plans file",
                mend=f"use one of: {', '.join(OPTIMIZERS)}",
            )

    @property
    def validation_iterations(self) -> int:
        """Batches on which the pseudo Dice of an epoch is computed."""
        return max(1, self.iterations // TRAINING_TO_VALIDATION_ITERATIONS)

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """Return a recipe with some of its numbers replaced.

        Raises:
            UserError: A setting is not one of the recipe's.
        """
        known = [field.name for field in fields(self)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise UserError(
                f"a recipe has no setting {', '.join(unknown)}",
                where="the recipe in the plans file",
                mend=f"use only: {', '.join(known)}",
            )
        return replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plans files hold it."""
        return asdict(self)


NNUNET = Recipe()
# Attention and state-space layers train poorly under SGD at nnU-Net's learning rate.
NNUNET_ADAMW = Recipe(optimizer="adamw", initial_lr=1e-3, weight_decay=1e-2)
