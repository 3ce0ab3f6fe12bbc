"""What every training gets beyond nnU-Net's, whoever's trainer it is."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.trainers.resuming import ResumableTrainer


class ReliableTrainer(ResumableTrainer):
    """nnU-Net's trainer with all that keeps a long run from being lost."""


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
