"""Point prompts drawn from reference masks, in nnU-Net's labels and regions."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from nnmedseg.networks.layers.point_sampling import points_from_mask
from nnmedseg.networks.prompt_maps import maps_of_points

REFERENCE_PROMPTS = "from the reference masks"
"""What files say about numbers that nobody gets without the reference masks."""

_NEITHER = 2
"""In a mask that points are drawn from: a pixel that is neither foreground nor background."""


def prompts_for_target(
    target: Tensor, labels: LabelManager, num_points: int, random: np.random.RandomState
) -> Tensor:
    """Draw prompts from a training target, anew in each step.

    Args:
        target: ``(B, 1, H, W)``, or where there are regions one channel each, and one more for what
            is ignored.
        labels: What its numbers mean.
        num_points: Points of each image and class; of a class that is absent all are background.
        random: Generator.

    Returns:
        Maps ``(B, foreground classes, H, W)``, see :mod:`nnmedseg.networks.prompt_maps`.
    """
    if not labels.has_regions:
        return _draw(_masks_of_labels(target, labels), num_points, random)
    regions = len(labels.foreground_regions)
    masks = _known(target[:, :regions].bool(), target[:, regions:].bool())
    return _draw(masks, num_points, random)


def prompts_for_case(
    name: str, segmentation: Tensor, labels: LabelManager, num_points: int
) -> Tensor:
    """Draw prompts from the reference of a case, the same ones whenever it has this name.

    Args:
        name: Of the case.
        segmentation: ``(1, Z, H, W)``, each slice of which is an image of its own.
        labels: What its numbers mean.
        num_points: Points of each slice and class.

    Returns:
        Maps ``(foreground classes, Z, H, W)``.
    """
    masks = _masks_of_labels(segmentation.transpose(0, 1), labels)
    maps = _draw(masks, num_points, np.random.RandomState(zlib.crc32(name.encode())))
    return maps.transpose(0, 1)


def _draw(masks: Tensor, num_points: int, random: np.random.RandomState) -> Tensor:
    points, labels = points_from_mask(masks, num_points, random)
    height, width = masks.shape[-2:]
    return maps_of_points(points, labels, (height, width))


def _masks_of_labels(segmentation: Tensor, labels: LabelManager) -> Tensor:
    """Bytes ``(B, foreground classes, H, W)``: 1 in a class, 0 outside of it, 2 where ignored."""
    classes = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    device = segmentation.device
    masks = [torch.isin(segmentation, torch.tensor(each, device=device)) for each in classes]
    ignored = (
        segmentation == labels.ignore_label if labels.has_ignore_label else segmentation[:, :0]
    )
    return _known(torch.cat(masks, dim=1), ignored)


def _known(masks: Tensor, ignored: Tensor) -> Tensor:
    """Mark what a channel says is ignored, except in an image where nothing else is left."""
    unknown = ignored.bool().any(dim=1, keepdim=True)
    unknown = unknown & ~unknown.all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    return masks.byte().masked_fill(unknown, _NEITHER)
