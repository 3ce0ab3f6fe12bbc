"""Trainers of ProMISe: SAM stays as it is, its prompts and shifts of mask tokens are trained."""

from __future__ import annotations

import logging
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
from nnmedseg.trainers.paper_recipes import ALWAYS, PROMISE
from nnmedseg.trainers.recipes import NNUNET_ADAMW
from nnmedseg.training.precision import safer_precision
from nnmedseg.training.pretrained import NONE, starting_point, unwrapped

logger = logging.getLogger(__name__)

MIXED = "mixed"


class ProMISeTrainer(MedSegTrainer):
    """ProMISe with both its parts: it finds its points and shifts SAM's mask tokens."""

    network_name = "promise_apm_ips"
    plans_name = "ProMISePlans"
    recipe = NNUNET_ADAMW
    paper_recipes = {ALWAYS: PROMISE}  # noqa: RUF012 - never changed

    def initialize(self) -> None:
        """Build network, optimiser and loss; where mixed precision is asked for, it is not fp16.

        Activations of so large a vision transformer can exceed what that holds.
        """
        if self.precision == MIXED and self.device.type == "cuda":
            self.precision = safer_precision("fp16", self.device)
            self.print_to_log_file(f"Mixed precision of a frozen SAM is {self.precision}")
        super().initialize()

    def load_starting_weights(self) -> str:
        """Load SAM's weights, which training leaves as they are."""
        if self.encoder_weights == NONE:
            logger.warning(
                "SAM's weights are random and stay so, as SAM is frozen: what is trained now is of "
                "no use but for tests"
            )
        return super().load_starting_weights()

    def on_train_start(self) -> None:
        """Begin; a training that is not resumed records which SAM it is."""
        super().on_train_start()
        if self.run_record is not None and self.current_epoch == 0:
            self.run_record.update(
                frozen_weights=self._planned.frozen_note(),
                starts_from=starting_point(self._planned, self.encoder_weights),
            )

    @property
    def _planned(self) -> PlannedNetwork:
        network = unwrapped(self.network)
        if not isinstance(network, PlannedNetwork):
            raise TypeError("the plans of this trainer name a network of this package")
        return network


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
        if self.run_record is not None:
            self.run_record.update(prompts=REFERENCE_PROMPTS)

    def forward_for_training(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_training(self._prompted(data, target), target)

    def forward_for_validation(self, data: Tensor, target: Any) -> Any:
        """Return the logits with points drawn from the target."""
        return super().forward_for_validation(self._prompted(data, target), target)

    def _prompted(self, data: Tensor, target: Tensor) -> Tensor:
        seed = int(torch.randint(2**31, ()))  # a resumed run goes on with torch's generator
        random = np.random.RandomState(seed)
        maps = prompts_for_target(
            target, self.label_manager, self._planned.network.num_points, random
        )
        return torch.cat([data, maps.to(data)], dim=1)

    def image_for_validation(self, name: str, image: Tensor, labels: Tensor) -> Tensor:
        """Return an image ``(C, Z, H, W)`` with points drawn from its labels ``(1, Z, H, W)``."""
        maps = prompts_for_case(name, labels, self.label_manager, self._planned.network.num_points)
        return torch.cat([image, maps.to(image)])

    def facts_of_validation(self) -> dict[str, Any]:
        """Say where the prompts of the validation come from."""
        return {**super().facts_of_validation(), "prompts": REFERENCE_PROMPTS}
