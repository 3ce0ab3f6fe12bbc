"""ASC-Seg's loss."""

from __future__ import annotations

from nnmedseg.losses._registry import register_loss
from nnmedseg.losses.deeply_supervised import SummedCrossEntropyDice


@register_loss("asc")
class ASCLoss(SummedCrossEntropyDice):
    """The mean of cross-entropy and Dice loss, summed over all four outputs.

    The older release, and this one until February 2025, weigh both with 1. The authors take them
    from probabilities; from logits they have the same value.
    """

    def __init__(self, cross_entropy_weight: float = 0.5, dice_weight: float = 0.5):
        super().__init__(cross_entropy_weight, dice_weight)
