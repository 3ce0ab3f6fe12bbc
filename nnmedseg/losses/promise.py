"""ProMISe's loss: binary cross-entropy and Dice over a quarter of the image's size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.errors import SizeError
from nnmedseg.losses._precision import in_float32
from nnmedseg.losses._registry import Form, register_loss
from nnmedseg.losses.pooled import as_list, binary_cross_entropy, dice_by_sample, single_logit


@in_float32
def dice_scores(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Score each sample and channel with ``2 (sum p t + smooth) / (sum p + sum t + smooth)``.

    The smoothing in the numerator is doubled with the overlap, so that a score can reach 2.

    Args:
        logits: ``(B, C, H, W)``.
        target: The same, from 0 to 1.
        smooth: What is added, in the numerator before doubling.

    Returns:
        ``(B, C)``.
    """
    probabilities, target = logits.sigmoid().flatten(2), target.flatten(2)
    overlap = (probabilities * target).sum(2) + smooth
    return 2 * overlap / (probabilities.sum(2) + target.sum(2) + smooth)


def clamped_dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the mean of `dice_scores`, which is clamped to 1; there no gradient passes."""
    return 1 - dice_scores(logits, target).mean().clamp(0, 1)


@in_float32
def reduced_target(target: Tensor, logits: Tensor) -> Tensor:
    """Bring a target ``(B, C, H, W)`` to the size of the logits, bilinearly without antialiasing.

    At a quarter of the size that is the mean of the central four of each sixteen pixels.
    """
    if target.shape[2:] == logits.shape[2:]:
        return target
    return functional.interpolate(target, logits.shape[2:], mode="bilinear")


@register_loss("promise")
class ProMISeLoss(nn.Module):
    """Binary cross-entropy plus Dice (``clamped_dice``), at the size of the logits.

    The paper's lives at a quarter of SAM's input: call it with `ProMISe.low_resolution_logits`.
    With the full-size logits it is the same loss at full resolution.

    Args:
        form: ``released`` takes the sigmoid of the logits first, as the authors' code gives masks
            after a sigmoid to terms that apply one themselves. Predictions so lie between 0.5
            and 0.73, the loss stays above 1 even for a perfect one, and its gradients are small.
        clamped: Take Dice as the paper does, in both forms. Without the clamp its smoothing is
            not doubled, so that an image without foreground has a gradient too.
    """

    def __init__(self, form: Form = "corrected", *, clamped: bool = True):
        super().__init__()
        self.form = form
        self.dice = clamped_dice if clamped else dice_by_sample

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """Compare logits with a mask.

        Args:
            outputs: Logits ``(B, C, h, w)``, C foreground classes or regions; or, for a mask of one
                channel, the two logits ``(B, 2, h, w)`` of background and foreground, whose softmax
                is the sigmoid of their difference.
            target: ``(B, C, H, W)``, from 0 to 1, at the size of the logits or larger.

        Returns:
            A scalar.

        Raises:
            SizeError: Logits and target do not have the same channels.
        """
        logits = as_list(outputs)[0]
        if logits.shape[1] == 2 and target.shape[1] == 1:
            logits = single_logit(logits)
        if logits.shape[1] != target.shape[1]:
            raise SizeError(
                "ProMISe's loss compares each logit with a mask of its own",
                where=f"{logits.shape[1]} logits, {target.shape[1]} masks",
                mend="give one mask a foreground class or region, with values from 0 to 1",
            )
        target = reduced_target(target, logits)
        logits = _probabilities(logits) if self.form == "released" else logits
        return binary_cross_entropy(logits, target) + self.dice(logits, target)


@in_float32
def _probabilities(logits: Tensor) -> Tensor:
    return logits.sigmoid()
