"""Loss terms that several of the papers share, from logits or from probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.errors import SizeError
from nnmedseg.losses._precision import in_float32


@in_float32
def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over all elements, of logits and a target in [0, 1]."""
    return functional.binary_cross_entropy_with_logits(logits, target)


@in_float32
def dice_by_sample(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Mean over the samples of ``1 - (2 sum p t + smooth) / (sum p + sum t + smooth)``."""
    return _dice_loss(logits.sigmoid().flatten(1), target.flatten(1), smooth).mean()


@in_float32
def dice_over_batch(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """The same with one sum over the whole batch."""
    return _dice_loss(logits.sigmoid().reshape(1, -1), target.reshape(1, -1), smooth).mean()


def _dice_loss(probabilities: Tensor, target: Tensor, smooth: float) -> Tensor:
    overlap = (probabilities * target).sum(1)
    return 1 - (2 * overlap + smooth) / (probabilities.sum(1) + target.sum(1) + smooth)


def single_logit(logits: Tensor) -> Tensor:
    """The one logit ``(B, 1, H, W)`` whose sigmoid is the softmax's foreground of two classes.

    Args:
        logits: ``(B, 1, H, W)``, which is that already, or ``(B, 2, H, W)``.

    Raises:
        SizeError: There are more classes, for which a binary loss is not defined.
    """
    classes = logits.shape[1]
    if classes > 2:
        raise SizeError(
            "This loss is defined for one foreground class",
            where=f"logits of {classes} classes",
            mend="use a network of one or two classes, or a loss for several",
        )
    return logits if classes == 1 else logits[:, 1:] - logits[:, :1]


def as_list(outputs: Tensor | list[Tensor]) -> list[Tensor]:
    """The supervised outputs of a network, which is one tensor where there is only one."""
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
