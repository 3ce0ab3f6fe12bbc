"""Trainer of HeteroMedSeg."""

from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.recipes import NNUNET_ADAMW


class HeteroMedSegTrainer(MedSegTrainer):
    """HeteroMedSeg, which has one output; its paper starts from BiFormer's weights."""

    network_name = "heteromedseg"
    plans_name = "HeteroMedSegPlans"
    recipe = NNUNET_ADAMW
