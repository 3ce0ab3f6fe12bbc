"""ConDSeg's losses of both training stages.

Terms are taken from logits; p, f, b and u are the sigmoids of the mask's, the foreground's, the
background's and the uncertainty's. The authors' networks end in a sigmoid and their Dice and
cross-entropy apply another one, which the form ``released`` repeats; they corrected it later.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.losses._precision import in_float32
from nnmedseg.losses._registry import Form, register_loss
from nnmedseg.losses.pooled import (
    as_list,
    binary_cross_entropy,
    dice_over_batch,
    single_logit,
)


@in_float32
def dice_bce(logits: Tensor, target: Tensor, form: Form = "corrected") -> Tensor:
    """Binary cross-entropy plus Dice over the whole batch, with a smoothing of 1.

    The authors clamp logarithms at -100, which logits need not.

    Args:
        logits: ``(B, 1, H, W)``.
        target: The same, from 0 to 1.
        form: ``released`` takes a second sigmoid of the probabilities.
    """
    if form == "released":
        logits = logits.sigmoid()
    return binary_cross_entropy(logits, target) + dice_over_batch(logits, target)


@in_float32
def mask_loss(logits: Tensor, target: Tensor, form: Form = "corrected") -> Tensor:
    """`dice_bce`, and what becomes of it with several classes.

    Two classes are one logit, the difference, whose sigmoid is their softmax: the same loss. More
    have the cross-entropy of the softmax, plus the mean over all classes but the background of
    Dice over the batch.

    Args:
        logits: ``(B, K, H, W)``.
        target: ``(B, 1, H, W)``: from 0 to 1 for one or two classes, else class numbers.
        form: As in `dice_bce`.

    Raises:
        UserError: ``released`` with more than two classes; the authors have one.
    """
    if logits.shape[1] <= 2:
        return dice_bce(single_logit(logits), target, form)
    if form == "released":
        raise UserError(
            "ConDSeg's loss as released exists for one or two classes only",
            where=f"logits of {logits.shape[1]} classes",
            mend="use the form 'corrected'",
        )
    labels = target[:, 0].long()
    probabilities = logits.softmax(1).transpose(0, 1).flatten(1)[1:]
    members = torch.stack([labels == label for label in range(1, logits.shape[1])]).flatten(1)
    overlap = (probabilities * members).sum(1)
    dice = (2 * overlap + 1) / (probabilities.sum(1) + members.sum(1) + 1)
    return functional.cross_entropy(logits, labels) + (1 - dice).mean()


@in_float32
def consistency(logits: Tensor, others: Tensor) -> Tensor:
    """Cross-entropy of each prediction against the other's decision, which carries no gradient.

    The decision of one logit is p > 0.5, of several the largest.

    Args:
        logits: ``(B, K, H, W)``, of an image.
        others: The same, of its strongly augmented copy.
    """
    if logits.shape[1] > 2:
        return functional.cross_entropy(logits, others.argmax(1)) + functional.cross_entropy(
            others, logits.argmax(1)
        )
    logits, others = single_logit(logits), single_logit(others)
    mask, other_mask = (view.gt(0).to(view.dtype) for view in (logits, others))
    return binary_cross_entropy(logits, other_mask) + binary_cross_entropy(others, mask)


@in_float32
def area_weight(logits: Tensor) -> Tensor:
    """The weight of an auxiliary term: 1 / tanh of the predicted area in images.

    The area is summed over the batch, so the weight is close to 1 for usual batches, and large for
    small objects. It carries a gradient.

    Args:
        logits: ``(B, 1, H, W)``.
    """
    area = logits.sigmoid().sum() / (logits.shape[-2] * logits.shape[-1])
    return 1 / (torch.tanh(area) + 1e-15)


@in_float32
def complementary(foreground: Tensor, background: Tensor, uncertainty: Tensor) -> Tensor:
    """Mean of the pairwise products of the softmax over (f, b, u).

    The softmax is of probabilities, so the term lies between 0.289 and 0.333.

    Args:
        foreground: Logits ``(B, 1, H, W)``.
        background: The same.
        uncertainty: The same.
    """
    probabilities = torch.cat([foreground, background, uncertainty], dim=1).sigmoid()
    f, b, u = probabilities.softmax(1).unbind(1)
    return (f * b + f * u + b * u).mean()


def _with_channel(target: Tensor) -> Tensor:
    return target if target.ndim == 4 else target.unsqueeze(1)


@register_loss("condseg_stage1")
class ConDSegStage1Loss(nn.Module):
    """Stage 1: `mask_loss` of an image and of its strong view, plus their `consistency`.

    Args:
        form: ``released`` takes a second sigmoid in the mask's terms, not in the consistency.
        consistency_weight: The code's; the paper halves the term.
    """

    def __init__(self, form: Form = "corrected", consistency_weight: float = 1.0):
        super().__init__()
        self.form = form
        self.consistency_weight = consistency_weight

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: Logits ``(B, K, H, W)`` of the image, as in validation, or a list of them and
                of those of its strong view.
            target: Mask from 0 to 1 or class numbers, ``(B, 1, H, W)`` or ``(B, H, W)``.
        """
        views, target = as_list(outputs), _with_channel(target)
        loss = torch.stack([mask_loss(view, target, self.form) for view in views]).sum()
        if len(views) == 1:
            return loss
        return loss + self.consistency_weight * consistency(*views)


@register_loss("condseg")
class ConDSegLoss(nn.Module):
    """Stage 2: the mask, foreground and background by their areas, and their `complementary` term.

    The uncertainty has no target of its own. Foreground is every label but 0, whatever the number
    of classes, and background its complement; the authors' background target is not augmented and
    so mostly does not fit the image.

    Args:
        form: ``released`` takes a second sigmoid in Dice and cross-entropy, not in `area_weight`
            and `complementary`.
    """

    def __init__(self, form: Form = "corrected"):
        super().__init__()
        self.form = form

    def forward(
        self,
        outputs: Tensor | list[Tensor],
        target: Tensor,
        background_target: Tensor | None = None,
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: Logits ``(B, K, H, W)``, and in a list with them the foreground's, the
                background's and the uncertainty's ``(B, 1, H, W)``. Without these it is
                `mask_loss` alone.
            target: Mask from 0 to 1 or class numbers, ``(B, 1, H, W)`` or ``(B, H, W)``.
            background_target: From 0 to 1, in place of the target's complement.
        """
        logits, *auxiliary = as_list(outputs)
        target = _with_channel(target)
        loss = mask_loss(logits, target, self.form)
        if not auxiliary:
            return loss
        foreground, background, uncertainty = auxiliary
        foreground_target = target.clamp(0, 1)
        if background_target is None:
            background_target = 1 - foreground_target
        return (
            loss
            + area_weight(foreground) * dice_bce(foreground, foreground_target, self.form)
            + area_weight(background) * dice_bce(background, background_target, self.form)
            + complementary(foreground, background, uncertainty)
        )
