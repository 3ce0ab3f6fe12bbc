"""Trainers of ProMISe: SAM stays as it is, its prompts and shifts of mask tokens are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.nnunet.reference_prompts import (
    REFERENCE_PROMPTS,
    prompts_for_case,
    prompts_for_target,
)
from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.pretrained import unwrapped
from nnmedseg.trainers.recipes import NNUNET_ADAMW


class ProMISeTrainer(MedSegTrainer):
    """ProMISe with both its parts: it finds its points and shifts SAM's mask tokens."""

    network_name = "promise_apm_ips"
    plans_name = "ProMISePlans"
    # Activations of so large a vision transformer can exceed what fp16 holds.
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
            "Every Dice of this trainer, while it trains and afterwards, is an oracle's: its "
            f"prompts are drawn {REFERENCE_PROMPTS}"
        )

    def forward_for_training(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_training(self._prompted(data, target), target)

    def forward_for_validation(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_validation(self._prompted(data, target), target)

    def _prompted(self, data: Tensor, target: Tensor) -> Tensor:
        seed = int(torch.randint(2**31, ()))  # a resumed run goes on with torch's generator
        random = np.random.RandomState(seed)
        maps = prompts_for_target(target, self.label_manager, self._num_points, random)
        return torch.cat([data, maps.to(data)], dim=1)

    def image_for_validation(self, name: str, image: Tensor, labels: Tensor) -> Tensor:
        """Return an image ``(C, Z, H, W)`` with points drawn from its labels ``(1, Z, H, W)``."""
        maps = prompts_for_case(name, labels, self.label_manager, self._num_points)
        return torch.cat([image, maps.to(image)])

    def facts_of_validation(self) -> dict[str, Any]:
        """Say where the prompts of the validation come from."""
        return {**super().facts_of_validation(), "prompts": REFERENCE_PROMPTS}

    @property
    def _num_points(self) -> int:
        network = unwrapped(self.network)
        if not isinstance(network, PlannedNetwork):
            raise TypeError("the plans of this trainer name a network of this package")
        return network.network.num_points
