"""How a network is trained, as data: the planner writes it, the trainer reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from nnmedseg.errors import UserError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULERS = ("poly", "cosine", "cosine_restarts", "plateau", "constant")
LOSS_FORMS = ("corrected", "released")
SELECTIONS = ("last", "best")
PRECISIONS = ("mixed", "fp32", "fp16", "bf16")
SETTINGS_OF_ANY_TRAINER = (
    "epochs",
    "gradient_clipping",
    "initial_lr",
    "iterations",
    "oversample_foreground",
    "precision",
    "weight_decay",
)
"""What nnU-Net's own trainers take too."""

TRAINING_TO_VALIDATION_ITERATIONS = 5  # nnU-Net's 250 to 50

NNUNET_LOSS = "nnunet"
"""nnU-Net's own loss, Dice and cross-entropy, on every supervised output of the classes."""

NNUNET_AUGMENTATION = "nnunet"
"""nnU-Net's own augmentation."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Loss, optimiser, schedule and augmentation of one training.

    Attributes:
        optimizer: ``"sgd"`` (Nesterov momentum 0.99, nnU-Net's), ``"adam"`` or ``"adamw"``.
        initial_lr: Learning rate of the first epoch.
        encoder_lr: That of a pretrained encoder, or ``None`` for the same.
        weight_decay: Decay of all parameters.
        scheduler: ``"poly"`` (nnU-Net's), ``"cosine"``, ``"cosine_restarts"``, ``"plateau"`` or
            ``"constant"``; see :mod:`nnmedseg.training.schedules`.
        scheduler_options: The scheduler's own numbers.
        gradient_clipping: Largest norm of all gradients together, or ``None`` for no clipping.
        loss: ``"nnunet"`` or the name of a paper's loss, see :mod:`nnmedseg.losses`.
        loss_form: ``"corrected"``, or ``"released"`` for what the authors' code computes.
        augmentation: ``"nnunet"`` or the name of a paper's, see
            :mod:`nnmedseg.training.augmentation`.
        oversample_foreground: Share of a batch whose patches are sure to hold foreground.
        precision: ``"mixed"`` (fp16 on CUDA, else fp32: nnU-Net's), ``"fp32"``, ``"fp16"`` or
            ``"bf16"``.
        epochs: Epochs; schedules fall over them.
        iterations: Batches in an epoch, or ``None`` for as many as hold each training image once.
        patience: Epochs without a better validation after which the training ends, or ``None``.
        selection: Which epoch's weights are the result: the ``"last"``, as in nnU-Net, or that of
            the ``"best"`` moving average of validation Dice.
    """

    optimizer: str = "sgd"
    initial_lr: float = 1e-2
    encoder_lr: float | None = None
    weight_decay: float = 3e-5
    scheduler: str = "poly"
    scheduler_options: Mapping[str, float] = field(default_factory=dict)
    gradient_clipping: float | None = 12.0
    loss: str = NNUNET_LOSS
    loss_form: str = "corrected"
    augmentation: str = NNUNET_AUGMENTATION
    oversample_foreground: float = 1 / 3
    precision: str = "mixed"
    epochs: int = 1000
    iterations: int | None = 250
    patience: int | None = None
    selection: str = "last"

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("scheduler", SCHEDULERS),
            ("loss_form", LOSS_FORMS),
            ("precision", PRECISIONS),
            ("selection", SELECTIONS),
        ):
            if getattr(self, name) not in known:
                raise UserError(
                    f"unknown {name} {getattr(self, name)!r}",
                    where="the recipe in the plans file",
                    mend=f"use one of: {', '.join(known)}",
                )

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """Return a recipe with some of its numbers replaced.

        Raises:
            UserError: A setting is not one of the recipe's.
        """
        known = [each.name for each in fields(self)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise UserError(
                f"a recipe has no setting {', '.join(unknown)}",
                where="the recipe in the plans file",
                mend=f"use only: {', '.join(known)}",
            )
        return replace(self, **changed_settings(self.to_dict(), settings))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plans files hold it."""
        return {**asdict(self), "scheduler_options": dict(self.scheduler_options)}


def changed_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's settings with changes; another scheduler does not keep the old options."""
    changed = {**settings, **changes}
    if changed.get("scheduler") != settings.get("scheduler") and "scheduler_options" not in changes:
        changed["scheduler_options"] = {}
    return changed


def validation_iterations(iterations: int) -> int:
    """Return on how many batches the pseudo Dice of an epoch is computed."""
    return max(1, iterations // TRAINING_TO_VALIDATION_ITERATIONS)


NNUNET = Recipe()
# Attention and state-space layers train poorly under SGD at nnU-Net's learning rate.
NNUNET_ADAMW = Recipe(optimizer="adamw", initial_lr=1e-3, weight_decay=1e-2)
