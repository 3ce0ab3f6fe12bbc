"""What every training gets beyond nnU-Net's, whoever's trainer it is."""

from __future__ import annotations

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnmedseg.training.distributed import DistributedTrainer
from nnmedseg.training.guarding import GuardedTrainer
from nnmedseg.training.loading import QuickLoadingTrainer
from nnmedseg.training.watching import WatchedTrainer


class ReliableTrainer(WatchedTrainer, GuardedTrainer, QuickLoadingTrainer, DistributedTrainer):
    """nnU-Net's trainer with all that keeps a long run from being lost."""

    def image_for_validation(self, name: str, image: Tensor, labels: Tensor) -> Tensor:
        """Return what the network is given of a preprocessed case.

        Args:
            name: Of the case.
            image: ``(C, Z, H, W)``.
            labels: ``(1, Z, H, W)``, for networks that are prompted.
        """
        del name, labels
        return image

    def facts_of_validation(self) -> dict[str, Any]:
        """Return what ``summary.json`` is to say beside the metrics."""
        return {}


def reliable(trainer_class: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """Return one of nnU-Net's trainers made reliable, under its own name.

    Those that have their own idea of saving keep it, and are left as they are.
    """
    if (
        issubclass(trainer_class, ReliableTrainer)
        or trainer_class.save_checkpoint is not nnUNetTrainer.save_checkpoint
    ):
        return trainer_class
    return type(trainer_class.__name__, (ReliableTrainer, trainer_class), {})
