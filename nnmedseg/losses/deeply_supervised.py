"""Cross-entropy and Dice summed over the supervised outputs, as RoSPER-Net and ASC-Seg train."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nnmedseg.losses.pooled import as_list, binary_cross_entropy, dice_by_sample, single_logit


class SummedCrossEntropyDice(nn.Module):
    """Sum over the outputs of weighted cross-entropy plus weighted Dice loss.

    Every output has the target's size and counts the same.

    Args:
        cross_entropy_weight: Weight of `binary_cross_entropy`.
        dice_weight: Weight of `dice_by_sample`.
    """

    binary: ClassVar[bool] = True

    def __init__(self, cross_entropy_weight: float, dice_weight: float):
        super().__init__()
        self.cross_entropy_weight = cross_entropy_weight
        self.dice_weight = dice_weight

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: Logits ``(B, 1, H, W)``, or of two classes ``(B, 2, H, W)``, or a list of them.
            target: Mask of values in [0, 1], ``(B, 1, H, W)``.

        Raises:
            SizeError: There are more than two classes.
        """
        losses = [
            self.cross_entropy_weight * binary_cross_entropy(logits, target)
            + self.dice_weight * dice_by_sample(logits, target)
            for logits in map(single_logit, as_list(outputs))
        ]
        return torch.stack(losses).sum()
