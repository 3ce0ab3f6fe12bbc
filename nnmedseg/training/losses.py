"""Losses over several supervised outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class AuxiliaryLoss(nn.Module):
    """A loss applied to every supervised output of a network, with weights that add up to one.

    In training a network returns a list of logits, finest first; in evaluation one tensor, to
    which the base loss is applied alone. Outputs smaller than the target get a target of their
    size, taken by nearest neighbour.

    Args:
        base: Loss of logits ``(B, K, H, W)`` and target ``(B, 1, H, W)``.
        weights: Weight of each output, or ``None`` for equal ones.
    """

    def __init__(self, base: nn.Module, weights: Sequence[float] | None = None):
        super().__init__()
        self.base = base
        self.weights = weights

    def forward(
        self, outputs: torch.Tensor | list[torch.Tensor], target: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted loss, a scalar."""
        if isinstance(outputs, torch.Tensor):
            return self.base(outputs, target)
        weights = self.weights or [1.0] * len(outputs)
        losses = [
            weight * self.base(logits, resized_target(target, logits))
            for weight, logits in zip(weights, outputs, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)


def resized_target(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the target ``(B, 1, H, W)`` at the size of the logits, by nearest neighbour."""
    if target.shape[2:] == logits.shape[2:]:
        return target
    resized = functional.interpolate(target.float(), logits.shape[2:], mode="nearest-exact")
    return resized.to(target.dtype)
