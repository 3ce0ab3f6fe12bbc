"""The losses of HeteroMedSeg: one for several classes (Synapse), one for a single logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.losses._precision import in_float32
from nnmedseg.losses._registry import register_loss
from nnmedseg.losses.pooled import as_list, dice_over_batch


@in_float32
def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over all pixels of the negative log softmax of the true class.

    Args:
        logits: ``(B, K, H, W)``.
        target: Class numbers ``(B, H, W)`` or ``(B, 1, H, W)``.
    """
    return functional.cross_entropy(logits, _class_numbers(logits, target))


@in_float32
def dice_by_class(logits: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """Dice loss of each class, background included, with squared sums over the whole batch.

    For the probability p of a class and t, whether it is the true one, it is
    ``1 - (2 sum p t + smooth) / (sum p^2 + sum t^2 + smooth)``.

    Args:
        logits: ``(B, K, H, W)``.
        target: Class numbers ``(B, H, W)`` or ``(B, 1, H, W)``.
        smooth: Makes a class that is nowhere and predicted nowhere count as found.

    Returns:
        One loss a class, ``(K,)``.
    """
    probabilities = logits.softmax(1)
    numbers = _class_numbers(logits, target).unsqueeze(1)
    truth = torch.zeros_like(probabilities).scatter_(1, numbers, 1)
    overlap = (probabilities * truth).sum((0, 2, 3))
    sizes = probabilities.square().sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - (2 * overlap + smooth) / (sizes + smooth)


@in_float32
def soft_iou(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Intersection over union of probabilities and a mask, one sum over the whole batch.

    The authors keep the weights of the lowest validation loss and report this beside it.

    Args:
        logits: ``(B, 1, H, W)``.
        target: A mask in [0, 1] of that shape.
        smooth: Added to both sums.
    """
    probabilities = logits.sigmoid()
    overlap = (probabilities * target).sum()
    return (overlap + smooth) / (probabilities.sum() + target.sum() - overlap + smooth)


@register_loss("heteromedseg")
class HeteroMedSegLoss(nn.Module):
    """``0.4 * cross-entropy + 0.6 * Dice`` for several classes, binary Dice for a single logit.

    The Dice loss of several classes is the mean of `dice_by_class`; that of a single logit is
    `dice_over_batch`.
    """

    cross_entropy_weight = 0.4
    dice_weight = 0.6

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            outputs: The network's logits ``(B, K, H, W)``.
            target: Class numbers ``(B, H, W)`` or ``(B, 1, H, W)``; for a single logit a mask in
                [0, 1] ``(B, 1, H, W)``.

        Returns:
            A scalar in float32.
        """
        (logits,) = as_list(outputs)
        if logits.shape[1] == 1:
            return dice_over_batch(logits, target)
        dice = dice_by_class(logits, target).mean()
        return self.cross_entropy_weight * cross_entropy(logits, target) + self.dice_weight * dice


def _class_numbers(logits: Tensor, target: Tensor) -> Tensor:
    """Class numbers ``(B, H, W)``, in the integers that PyTorch's functions ask for."""
    return target.reshape(logits.shape[0], *logits.shape[2:]).long()
