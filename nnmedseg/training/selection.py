"""Which epoch's weights are the result of a training, and when further ones are in vain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.training.checkpoints import BEST, read_checkpoint


class OutOfPatience(Exception):  # noqa: N818 - it ends a training well
    """The validation has not become better for as many epochs as the recipe waits."""


def check_patience(trainer: nnUNetTrainer, patience: int | None) -> None:
    """End the training when the best epoch is too long ago.

    Raises:
        OutOfPatience: It is.
    """
    if patience is None:
        return
    scores = np.asarray(trainer.logger.get_value("mean_fg_dice", step=None), float)
    if np.isnan(scores).all():
        return
    waited = len(scores) - 1 - int(np.nanargmax(scores))
    if waited >= patience and trainer.current_epoch < trainer.num_epochs:
        raise OutOfPatience(
            f"Ending after epoch {trainer.current_epoch}: the validation has not become better "
            f"for {waited} epochs"
        )


def take_best_weights(trainer: nnUNetTrainer) -> None:
    """Load the best epoch's weights into the network, so that the final checkpoint holds them."""
    path = Path(trainer.output_folder) / BEST
    if not path.is_file():
        return
    content = read_checkpoint(path)
    network = trainer.network.module if trainer.is_ddp else trainer.network
    network = getattr(network, "_orig_mod", network)
    network.load_state_dict(content["network_weights"])
    trainer.print_to_log_file(
        f"The result is epoch {content['current_epoch'] - 1}, the best in validation"
    )
