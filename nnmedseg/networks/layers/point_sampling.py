"""Point prompts drawn from a known mask."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnmedseg.errors import DataError


def points_from_mask(
    masks: Tensor, num_points: int, random: np.random.RandomState
) -> tuple[Tensor, Tensor]:
    """Draw pixels from masks as point prompts, as ProMISe does with the ground truth.

    Of each mask half the points are foreground (the smaller half of an odd number) and the rest
    background, each uniform with replacement, in random order. A single point is foreground.
    Where one of the two is absent all points are of the other.

    Args:
        masks: ``(..., H, W)``; exactly 1 is foreground, exactly 0 background.
        num_points: Points of each mask.
        random: Generator; for the points of the authors ``numpy.random.RandomState(seed)``.

    Returns:
        Points ``(..., num_points, 2)``, x and y in whole pixels as float32, and labels
        ``(..., num_points)``, 1 for foreground and 0 for background.

    Raises:
        DataError: A mask has neither foreground nor background.
    """
    drawn = [
        _points_from_one(mask, num_points, random)
        for mask in masks.reshape(-1, *masks.shape[-2:]).cpu().numpy()
    ]
    leading = masks.shape[:-2]
    points = torch.tensor(np.stack([points for points, _ in drawn]), dtype=torch.float32)
    labels = torch.tensor(np.stack([labels for _, labels in drawn]), dtype=torch.long)
    return (
        points.reshape(*leading, num_points, 2).to(masks.device),
        labels.reshape(*leading, num_points).to(masks.device),
    )


def _points_from_one(
    mask: np.ndarray, num_points: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    foreground, background = (np.argwhere(mask == value)[:, ::-1] for value in (1, 0))
    if not len(foreground) and not len(background):
        raise DataError(
            "Points cannot be drawn from a mask without pixels of exactly 0 or 1",
            where=f"mask with values from {mask.min()} to {mask.max()}",
            mend="give a binary mask",
        )
    inside = max(num_points // 2, 1)
    if not len(foreground):
        inside = 0
    elif not len(background):
        inside = num_points
    counts = [(foreground, inside), (background, num_points - inside)]
    drawn = [pixels[random.choice(len(pixels), count)] for pixels, count in counts if count]
    points = np.concatenate(drawn)
    labels = np.repeat([1, 0], [inside, num_points - inside])
    if num_points == 1:
        return points, labels
    order = random.permutation(num_points)
    return points[order], labels[order]
