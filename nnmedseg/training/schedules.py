"""Learning rates over a training.

nnU-Net steps its schedule with the number of the epoch that begins; ours take fractions of epochs
too, and one of them is told the validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nnmedseg.errors import UserError
from nnmedseg.trainers.recipes import Recipe

Rate = Callable[[float, float], float]
"""From the first learning rate and the time in epochs to the learning rate."""

POLYNOMIAL_EXPONENT = 0.9  # nnU-Net's
STEPPED_BY_ITERATION = ("cosine_restarts",)


class EpochSchedule(LRScheduler):
    """A learning rate that is a function of the time in epochs.

    Args:
        optimizer: Whose groups' first learning rates are those of the start.
        rate: The function.
    """

    def __init__(self, optimizer: Optimizer, rate: Rate):
        self._rate = rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each group of parameters."""
        return [self._rate(float(first), float(self.last_epoch)) for first in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Set the learning rates of a time; without one, of the next epoch."""
        time = self.last_epoch + 1 if epoch is None else epoch
        self.last_epoch = cast("int", time)  # a fraction is as good
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the time; all else follows from the recipe."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to the time of a state; those of nnU-Net's own schedule hold one too."""
        self.step(state_dict["last_epoch"])


class PlateauSchedule(ReduceLROnPlateau):
    """Falls when the validation loss has stopped to fall; see `observe`."""

    def step(self, epoch: float | None = None) -> None:  # type: ignore[override]
        """Do nothing: time alone changes no learning rate here."""

    def observe(self, validation_loss: float) -> None:
        """Take note of the loss of an epoch that has ended."""
        super().step(validation_loss)


def build_schedule(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """Return the recipe's schedule.

    ======================= ========================================================================
    ``poly``                nnU-Net's: falls to zero over the epochs, ``(1 - t / epochs) ^ 0.9``
    ``cosine``              falls to ``minimum`` (0) over ``half_period`` epochs (all) and, where
                            that is shorter, rises and falls again
    ``cosine_restarts``     falls to ``minimum`` (0) in each of ``cycles`` (1) cycles, each twice as
                            long as the one before, the last of which ends with the training
    ``plateau``             is multiplied by ``factor`` (0.1) when the validation loss has not
                            fallen by a share of ``threshold`` (1e-4) for ``patience`` (30) epochs
    ``constant``            stays
    ======================= ========================================================================

    Raises:
        UserError: The scheduler has no such option.
    """
    options = dict(recipe.scheduler_options)
    known = _OPTIONS[recipe.scheduler]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"the scheduler {recipe.scheduler!r} has no option {', '.join(unknown)}",
            where="scheduler_options of the recipe in the plans file",
            mend=f"use only: {', '.join(known) or 'none'}",
        )
    if recipe.scheduler == "plateau":
        settings = {"factor": 0.1, "patience": 30, "threshold": 1e-4, **options}
        return PlateauSchedule(
            optimizer,
            factor=settings["factor"],
            patience=int(settings["patience"]),
            threshold=settings["threshold"],
        )
    return EpochSchedule(optimizer, _rate(recipe.scheduler, recipe.epochs, options))


_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "poly": (),
    "cosine": ("half_period", "minimum"),
    "cosine_restarts": ("cycles", "minimum"),
    "plateau": ("factor", "patience", "threshold"),
    "constant": (),
}


def _rate(scheduler: str, epochs: int, options: Mapping[str, float]) -> Rate:
    minimum = options.get("minimum", 0.0)
    if scheduler == "poly":
        return lambda first, time: first * (1 - min(time, epochs) / epochs) ** POLYNOMIAL_EXPONENT
    if scheduler == "cosine":
        half_period = options.get("half_period", epochs)
        return lambda first, time: _cosine(first, minimum, time / half_period)
    if scheduler == "cosine_restarts":
        cycles = int(options.get("cycles", 1))
        return lambda first, time: _cosine(first, minimum, _place_in_cycle(time / epochs, cycles))
    return lambda first, time: first


def _cosine(first: float, minimum: float, place: float) -> float:
    return minimum + (first - minimum) * (1 + math.cos(math.pi * place)) / 2


def _place_in_cycle(done: float, cycles: int) -> float:
    """Return how much of the current cycle is over, when a share of all cycles is."""
    units = done * (2**cycles - 1)  # the first cycle is one unit
    cycle = min(int(math.log2(units + 1)), cycles - 1)
    return min(1.0, (units - (2**cycle - 1)) / 2**cycle)
