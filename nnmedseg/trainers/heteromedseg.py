"""Trainer of HeteroMedSeg."""

from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.paper_recipes import HETEROMEDSEG_RECIPES
from nnmedseg.trainers.recipes import NNUNET_ADAMW


class HeteroMedSegTrainer(MedSegTrainer):
    """HeteroMedSeg, which has one output; its paper starts from BiFormer's weights."""

    network_name = "heteromedseg"
    plans_name = "HeteroMedSegPlans"
    recipe = NNUNET_ADAMW
    paper_recipes = HETEROMEDSEG_RECIPES
