"""RoSPER-Net's loss."""

from __future__ import annotations

from nnmedseg.losses._registry import register_loss
from nnmedseg.losses.deeply_supervised import SummedCrossEntropyDice


@register_loss("rosper")
class RoSPERLoss(SummedCrossEntropyDice):
    """Cross-entropy plus Dice loss, summed over all four outputs.

    The authors take them from probabilities; from logits they have the same value.
    """

    def __init__(self, cross_entropy_weight: float = 1.0, dice_weight: float = 1.0):
        super().__init__(cross_entropy_weight, dice_weight)
