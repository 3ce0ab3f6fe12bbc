"""Trainers of ProMISe: SAM stays as it is, its prompts and shifts of mask tokens are trained."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.layers.point_sampling import points_from_mask
from nnmedseg.networks.prompt_maps import maps_of_points
from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.pretrained import unwrapped
from nnmedseg.trainers.recipes import NNUNET_ADAMW

REFERENCE_PROMPTS = "from the reference masks"
"""What files say about numbers that nobody gets without the reference masks."""

_NEITHER = 2
"""In a mask that points are drawn from: a pixel that is neither foreground nor background."""


class ProMISeTrainer(MedSegTrainer):
    """ProMISe with both its parts: it finds its points and shifts SAM's mask tokens."""

    network_name = "promise_apm_ips"
    plans_name = "ProMISePlans"
    # In fp16 the activations of a vision transformer of this size overflow now and then.
    recipe = NNUNET_ADAMW.changed({"precision": "bf16"})


class ProMISeAPMTrainer(ProMISeTrainer):
    """ProMISe that finds its points; SAM's mask tokens are as they were."""

    network_name = "promise_apm"
    plans_name = "ProMISeAPMPlans"


class ProMISePromptTrainer(ProMISeTrainer):
    """ProMISe that shifts SAM's mask tokens and is given its points.

    They are drawn from the reference masks, in training and, as in the paper, in validation: its
    validation Dice is that of an oracle, and not to be compared with that of the other trainers.
    Of a class that a patch does not hold all points are background.
    """

    network_name = "promise_ips_gt"
    plans_name = "ProMISePromptPlans"

    def on_train_start(self) -> None:
        """Begin, and say what the validation's numbers are worth."""
        super().on_train_start()
        self.print_to_log_file(
            f"Every Dice of this training is an oracle's: its prompts are drawn {REFERENCE_PROMPTS}"
        )

    def forward_for_training(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_training(self._prompted(data, target), target)

    def forward_for_validation(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_validation(self._prompted(data, target), target)

    def _prompted(self, data: Tensor, target: Tensor) -> Tensor:
        seed = int(torch.randint(2**31, ()))  # a resumed run goes on with torch's generator
        masks = masks_of_target(target, self.label_manager)
        return torch.cat([data, self._draw(masks, np.random.RandomState(seed)).to(data)], dim=1)

    def image_for_validation(self, name: str, image: Tensor, labels: Tensor) -> Tensor:
        """Return an image ``(C, Z, H, W)`` with points drawn from its labels ``(1, Z, H, W)``.

        They are the same ones whenever the case of this name is validated.
        """
        masks = masks_of_labels(labels.transpose(0, 1), self.label_manager)
        maps = self._draw(masks, np.random.RandomState(zlib.crc32(name.encode())))
        return torch.cat([image, maps.transpose(0, 1).to(image)])

    def facts_of_validation(self) -> dict[str, Any]:
        """Return what ``summary.json`` says beside the metrics."""
        return {**super().facts_of_validation(), "prompts": REFERENCE_PROMPTS}

    def _draw(self, masks: Tensor, random: np.random.RandomState) -> Tensor:
        points, labels = points_from_mask(masks, self._num_points, random)
        height, width = masks.shape[-2:]
        return maps_of_points(points, labels, (height, width))

    @property
    def _num_points(self) -> int:
        network = unwrapped(self.network)
        if not isinstance(network, PlannedNetwork):
            raise TypeError("plans of this trainer name a network of this package")
        return network.network.num_points


def masks_of_target(target: Tensor, labels: LabelManager) -> Tensor:
    """Return the masks of a training target, which has a channel a region where there are regions.

    See `masks_of_labels`.
    """
    if not labels.has_regions:
        return masks_of_labels(target, labels)
    regions = len(labels.foreground_regions)
    return _known(target[:, :regions].bool(), target[:, regions:].bool())


def masks_of_labels(segmentation: Tensor, labels: LabelManager) -> Tensor:
    """Return what points are drawn from: 1 in a class, 0 outside of it, 2 where nobody knows.

    Args:
        segmentation: ``(B, 1, H, W)``.
        labels: What its numbers mean.

    Returns:
        ``(B, foreground classes or regions, H, W)``, bytes.
    """
    classes = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    masks = [
        torch.isin(segmentation, torch.tensor(each, device=segmentation.device)) for each in classes
    ]
    ignored = (
        segmentation == labels.ignore_label if labels.has_ignore_label else segmentation[:, :0]
    )
    return _known(torch.cat(masks, dim=1), ignored)


def _known(masks: Tensor, ignored: Tensor) -> Tensor:
    """Mark what a channel says is ignored, except in an image where nothing else is left."""
    unknown = ignored.bool().any(dim=1, keepdim=True)
    unknown = unknown & ~unknown.all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    return masks.byte().masked_fill(unknown, _NEITHER)
