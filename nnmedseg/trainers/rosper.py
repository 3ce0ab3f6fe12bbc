"""Trainer of RoSPER-Net."""

from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.paper_recipes import ALWAYS, ROSPER
from nnmedseg.trainers.recipes import NNUNET_ADAMW


class RoSPERTrainer(MedSegTrainer):
    """RoSPER-Net, all four full-resolution heads supervised with equal weight, as in the paper."""

    network_name = "rosper"
    plans_name = "RoSPERPlans"
    recipe = NNUNET_ADAMW
    paper_recipes = {ALWAYS: ROSPER}  # noqa: RUF012 - never changed
