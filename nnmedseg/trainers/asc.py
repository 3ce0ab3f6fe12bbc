"""Trainer of ASC-Seg."""

from nnmedseg.trainers.base import MedSegTrainer
from nnmedseg.trainers.paper_recipes import ALWAYS, ASC
from nnmedseg.trainers.recipes import NNUNET_ADAMW


class ASCSegTrainer(MedSegTrainer):
    """ASC-Seg, all full-resolution heads supervised with equal weight, as in the paper."""

    network_name = "asc"
    plans_name = "ASCSegPlans"
    recipe = NNUNET_ADAMW
    paper_recipes = {ALWAYS: ASC}  # noqa: RUF012 - never changed
