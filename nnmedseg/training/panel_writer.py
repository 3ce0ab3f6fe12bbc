"""Drawing panels in the course of a training, which they never end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnmedseg.files import atomic_path
from nnmedseg.training.panels import Labels, PanelCase, choose, cut_out, draw_panel
from nnmedseg.training.precision import autocast
from nnmedseg.training.pretrained import unwrapped

if TYPE_CHECKING:
    from nnmedseg.training.reliable import ReliableTrainer

logger = logging.getLogger(__name__)

PANEL_FOLDER = "panels"


class PanelWriter:
    """Writes ``panels/epoch_0010.png`` every so many epochs.

    Args:
        trainer: Whose validation cases are shown.
        every: Epochs from one to the next, besides that of the last epoch; 0 for none.
    """

    def __init__(self, trainer: Any, every: int):
        self._trainer: ReliableTrainer = trainer
        self._every = every
        self._cases: list[PanelCase] | None = None

    def epoch_ends(self, epoch: int) -> None:
        """Draw a panel if it is time for one.

        Args:
            epoch: Counted from 1.
        """
        is_due = self._every and (epoch % self._every == 0 or epoch >= self._trainer.num_epochs)
        if not is_due:
            return
        try:
            self._write(epoch)
        except Exception as error:  # a picture must not cost a training
            self._every = 0
            logger.warning("No more panels are drawn: %s: %s", type(error).__name__, error)

    def _write(self, epoch: int) -> None:
        if self._cases is None:
            self._cases = self._load()
        predictions = self._predict(self._cases)
        panel = draw_panel(f"Epoch {epoch}", self._cases, predictions)
        path = Path(self._trainer.output_folder) / PANEL_FOLDER / f"epoch_{epoch:04d}.png"
        with atomic_path(path, durable=False) as temporary:
            panel.save(temporary, compress_level=1)

    def _load(self) -> list[PanelCase]:
        trainer = self._trainer
        with trainer.said_before():
            _, names = trainer.do_split()
        dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, choose(names))
        found = []
        for name in dataset.identifiers:
            data, labels, _, _ = dataset.load_case(name)
            found.append(cut_out(name, data, labels, trainer.configuration_manager.patch_size))
        return found

    def _predict(self, cases: list[PanelCase]) -> list[Labels]:
        """Return the labels of what is shown of each case."""
        trainer, whole = self._trainer, self._trainer.network
        # Other processes do not take part, and another shape of batch need not be compiled.
        trainer.network = unwrapped(whole)
        was_training = trainer.network.training
        trainer.network.eval()
        try:
            with torch.no_grad(), autocast(trainer.precision, trainer.device):
                return [self._labels_of(case) for case in cases]
        finally:
            trainer.network.train(was_training)
            trainer.network = whole

    def _labels_of(self, case: PanelCase) -> Labels:
        trainer = self._trainer
        image = trainer.image_for_validation(case.name, case.image, case.labels)
        is_volume = len(trainer.configuration_manager.patch_size) == 3
        batch = (image if is_volume else image[:, 0])[None].to(trainer.device)
        logits = trainer.network(batch)
        if isinstance(logits, (list, tuple)):  # nnU-Net's own networks, with deep supervision
            logits = logits[0]
        labels = trainer.label_manager.convert_logits_to_segmentation(logits[0].float().cpu())
        shown = np.asarray(labels[case.plane] if is_volume else labels)
        height, width = case.truth.shape
        return shown[:height, :width]
