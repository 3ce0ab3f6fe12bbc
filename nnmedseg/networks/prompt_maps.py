"""Point prompts as channels behind those of the image.

Tiles of a sliding window, mirrored copies and padding then take their points along, whoever cuts
them. A pixel holds how many foreground points lie on it, or as a negative number how
many background points; a foreground class has a channel of its own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnmedseg.networks.layers.point_sampling import points_from_mask
from nnmedseg.networks.layers.sam.prompt_encoder import BACKGROUND, FOREGROUND, PADDING


def maps_of_points(points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw points into maps.

    Args:
        points: ``(..., P, 2)``, x and y in pixels, rounded to whole ones.
        labels: ``(..., P)``, 1 for foreground, 0 for background, -1 for none.
        size: Height and width in pixels; all points lie within.

    Returns:
        Maps ``(..., height, width)``, float32.
    """
    height, width = size
    leading = points.shape[:-2]
    x, y = points.round().long().unbind(-1)
    values = (labels == FOREGROUND).float() - (labels == BACKGROUND).float()
    maps = points.new_zeros((*leading, height * width), dtype=torch.float32)
    maps.scatter_add_(-1, (y * width + x).clamp(0, height * width - 1), values)
    return maps.reshape(*leading, height, width)


def points_of_maps(maps: Tensor, points_without: int) -> tuple[Tensor, Tensor]:
    """Return the points in maps.

    A class without a point is taken for absent: it gets background points spread over the map, as
    it does in training.

    Args:
        maps: ``(B, F, H, W)``.
        points_without: How many points a class without any gets.

    Returns:
        Points ``(B, F, P, 2)``, x and y in pixels, and labels ``(B, F, P)``, filled up to the
        largest number of points with points of label -1, which are none.
    """
    batch, classes, height, width = maps.shape
    counts = maps.round().long()
    place = counts.nonzero()
    repeats = counts[tuple(place.unbind(1))]
    place = place.repeat_interleave(repeats.abs(), dim=0)
    kinds = (repeats > 0).long().repeat_interleave(repeats.abs())
    group = place[:, 0] * classes + place[:, 1]
    sizes = torch.bincount(group, minlength=batch * classes)
    absent = sizes == 0
    most = max(int(sizes.max()), points_without if absent.any() else 1)
    points = torch.zeros(batch * classes, most, 2, device=maps.device)
    labels = torch.full((batch * classes, most), PADDING, device=maps.device)
    position = torch.arange(len(group), device=maps.device) - (sizes.cumsum(0) - sizes)[group]
    points[group, position] = place[:, [3, 2]].float()
    labels[group, position] = kinds
    if absent.any():
        nothing = torch.zeros(height, width, device=maps.device)
        spread, background = points_from_mask(nothing, points_without, np.random.RandomState(0))
        points[absent, :points_without] = spread
        labels[absent, :points_without] = background
    return points.reshape(batch, classes, most, 2), labels.reshape(batch, classes, most)
