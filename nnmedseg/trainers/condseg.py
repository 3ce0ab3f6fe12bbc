"""Trainers of ConDSeg: two stages with ResNet-50, one with PVTv2."""

from __future__ import annotations

from pathlib import Path

from nnmedseg.errors import WeightsError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.paper_recipes import ALWAYS, CONDSEG, CONDSEG_STAGE1
from nnmedseg.trainers.recipes import NNUNET_ADAMW
from nnmedseg.training.first_stage import FirstStage, load_first_stage
from nnmedseg.training.pretrained import unwrapped

# The paper trains the encoder at a tenth of the rest's learning rate once it is pretrained.
_WITH_SLOW_ENCODER = NNUNET_ADAMW.changed({"encoder_lr": NNUNET_ADAMW.initial_lr / 10})


class ConDSegStage1Trainer(MedSegTrainer):
    """ConDSeg's first stage, Consistency Reinforcement: the encoder with a light head.

    `ConDSegTrainer` runs it by itself. What it trains can be used for prediction too.

    In ``2d_paper`` the loss also compares each image with a strongly augmented copy of it. In
    ``2d`` it does not: there the loss and the augmentation are nnU-Net's for every trainer, and
    they prepare this encoder as they would any other. The copy would be a second forward and
    backward pass for each image, which the other trainers do not have; and what it changes,
    brightness, contrast and sharpness, nnU-Net's augmentation changes under the mask's supervision.
    """

    network_name = "condseg_stage1"
    plans_name = "ConDSegStage1Plans"
    recipe = NNUNET_ADAMW
    paper_recipes = {ALWAYS: CONDSEG_STAGE1}  # noqa: RUF012 - never changed


class ConDSegTrainer(MedSegTrainer):
    """ConDSeg with ResNet-50, whose encoder the first stage has trained.

    In ``2d`` the loss sees the mask alone; in ``2d_paper`` the foreground, background and
    uncertainty outputs too.
    """

    network_name = "condseg"
    plans_name = "ConDSegPlans"
    first_stage = ConDSegStage1Trainer
    recipe = _WITH_SLOW_ENCODER
    paper_recipes = {ALWAYS: CONDSEG}  # noqa: RUF012 - never changed

    def load_starting_weights(self) -> str:
        """Load the first stage's encoder.

        Raises:
            WeightsError: No first stage is named in the plans, or it does not fit.
        """
        planned = self.configuration_manager.configuration.get("nnmedseg", {})
        network = unwrapped(self.network)
        if "first_stage" not in planned or not isinstance(network, PlannedNetwork):
            raise WeightsError(
                "this is the second of two stages, and nothing says where the first one is",
                where=self.output_folder,
                mend="train with nnmedseg_train, which trains the first stage before it",
            )
        results = Path(self.output_folder).parents[1]
        return load_first_stage(network, FirstStage(**planned["first_stage"]).file(results))


class ConDSegPVTTrainer(MedSegTrainer):
    """ConDSeg with the encoder PVTv2-b2.

    The paper has no first stage for it, so it starts from ImageNet's weights.
    """

    network_name = "condseg"
    network_options = {"encoder": "pvt_v2_b2"}  # noqa: RUF012 - never changed
    plans_name = "ConDSegPVTPlans"
    recipe = _WITH_SLOW_ENCODER
    paper_recipes = {ALWAYS: CONDSEG}  # noqa: RUF012 - never changed
