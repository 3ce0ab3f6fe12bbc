"""A paper's own loss as a trainer calls it: with nnU-Net's labels, and one logit for two classes.

nnU-Net has a channel of logits for the background, which the papers' binary networks do not; the
difference of the two logits is theirs.
"""

from __future__ import annotations

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnmedseg.errors import UserError
from nnmedseg.losses import create_loss, loss_forms
from nnmedseg.losses.pooled import as_list, single_logit
from nnmedseg.trainers.recipes import NNUNET_LOSS, Recipe
from nnmedseg.training.augmentation import WITH_RELEASED_FAULT

ONE_MASK_A_CLASS = "promise"
"""The loss that compares each foreground class with a mask of its own."""


class PaperObjective(nn.Module):
    """A registered loss of a network's outputs and nnU-Net's labels.

    Args:
        name: Of the loss.
        form: ``"corrected"`` or ``"released"``.
        classes: Channels of the logits, background included.

    Raises:
        UserError: The loss has no such form for so many classes.
    """

    def __init__(self, name: str, form: str, classes: int):
        super().__init__()
        if form == "released" and form not in loss_forms(name):
            form = "corrected"  # the fault that was asked for is elsewhere
        if form == "released" and classes > 2:
            raise UserError(
                f"the authors' loss has one foreground class, these data have {classes - 1}",
                where="--as-released",
                mend="leave --as-released out",
            )
        self.name = name
        self.classes = classes
        self.loss = create_loss(name, form="released" if form == "released" else "corrected")

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: Logits ``(B, K, H, W)``, or a list that begins with them, whose further entries
                may have one channel.
            target: Labels ``(B, 1, H, W)``.
        """
        logits = as_list(outputs)
        if self.classes == 2:
            return self.loss([single_logit(each) for each in logits], target.float())
        if self.name == ONE_MASK_A_CLASS:
            masks = [target == label for label in range(1, self.classes)]
            foreground = [each[:, 1:] for each in logits]
            return self.loss(foreground, torch.cat(masks, dim=1).float())
        return self.loss(logits, target)


def build_objective(recipe: Recipe, labels: LabelManager) -> PaperObjective | None:
    """Return the paper's loss that a recipe names, or ``None`` where it is nnU-Net's.

    Raises:
        UserError: The form or the labels are not what the loss is made for.
    """
    if recipe.loss == NNUNET_LOSS:
        if recipe.loss_form != "corrected":
            raise UserError(
                "nnU-Net's loss has no fault that a paper has released",
                where="--as-released",
                mend="train configuration 2d_paper of a paper's trainer, or leave the option out",
            )
        return None
    has_fault = recipe.augmentation in WITH_RELEASED_FAULT
    if recipe.loss_form not in loss_forms(recipe.loss) and not has_fault:
        raise UserError(
            f"the authors' code has no fault in the loss {recipe.loss!r}",
            where="--as-released",
            mend="leave --as-released out: loss and augmentation are the authors' without it",
        )
    if labels.has_regions or labels.has_ignore_label:
        kind = "regions" if labels.has_regions else "an ignore label"
        raise UserError(
            f"the paper's loss takes no labels with {kind}",
            where="the recipe in the plans file",
            mend=f'plan again, or set "loss": "{NNUNET_LOSS}" there',
        )
    return PaperObjective(recipe.loss, recipe.loss_form, labels.num_segmentation_heads)
