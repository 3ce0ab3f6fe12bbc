"""The trainer that all papers share: nnU-Net's, with another network, loss and optimiser."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnmedseg.data.splits import SPLITS_FILE
from nnmedseg.errors import list_some
from nnmedseg.files import read_json
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.layers.layout import lay_out_weights
from nnmedseg.nnunet import captured_output
from nnmedseg.nnunet.registration import register
from nnmedseg.trainers.paper_recipes import PaperRecipes
from nnmedseg.trainers.recipes import (
    NNUNET,
    NNUNET_LOSS,
    Recipe,
    validation_iterations,
)
from nnmedseg.training.group import first_goes_ahead
from nnmedseg.training.loading import AugmentingTrainer
from nnmedseg.training.losses import AuxiliaryLoss
from nnmedseg.training.objectives import build_objective
from nnmedseg.training.optimizers import build_optimizer
from nnmedseg.training.pretrained import PAPER, load_pretrained
from nnmedseg.training.reliable import ReliableTrainer
from nnmedseg.training.schedules import STEPPED_BY_ITERATION, PlateauSchedule, build_schedule
from nnmedseg.training.selection import OutOfPatience, check_patience, take_best_weights
from nnmedseg.training.validation import validate

logger = logging.getLogger(__name__)

register()


class MedSegTrainer(AugmentingTrainer, ReliableTrainer):
    """Trains a registered network inside nnU-Net's augmentation, splits and sliding window.

    A paper's trainer sets the class attributes. nnU-Net's deep supervision is switched off: the
    network itself returns its supervised outputs in training (``PlannedNetwork``), so that one
    target travels from the data loaders instead of one for each output.

    Attributes:
        network_name: Registered name of the network; ``None`` marks a base class.
        network_options: Options of the network that differ from its defaults.
        first_stage: The trainer whose encoder this one starts from, trained before it; see
            :mod:`nnmedseg.training.stages`.
        plans_name: Plans file that ``nnmedseg_train`` uses when none is given.
        recipe: Training settings; those in the plans win.
        paper_recipes: The paper's own, for configuration ``2d_paper``.
        auxiliary_weights: Weight of each supervised output, or ``None`` for equal ones.
    """

    network_name: ClassVar[str | None] = None
    network_options: ClassVar[Mapping[str, Any]] = {}
    first_stage: ClassVar[type[MedSegTrainer] | None] = None
    plans_name: ClassVar[str] = "nnUNetPlans"
    recipe: Recipe = NNUNET
    paper_recipes: ClassVar[PaperRecipes] = {}
    auxiliary_weights: ClassVar[Sequence[float] | None] = None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own signature
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        planned = self.configuration_manager.configuration.get("nnmedseg", {})
        self.recipe = self.recipe.changed(planned.get("recipe", {}))
        self.encoder_weights: str = planned.get("encoder_weights", PAPER)
        apply_recipe(self, self.recipe)
        self.enable_deep_supervision = False
        self._steps = 0

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the plans name, as nnU-Net does in training and at inference."""
        network = nnUNetTrainer.build_network_architecture(
            plans_manager,
            configuration_manager,
            num_input_channels,
            num_output_channels,
            enable_deep_supervision,
        )
        if isinstance(network, PlannedNetwork):
            planned = configuration_manager.configuration.get("nnmedseg", {})
            loss = planned.get("recipe", {}).get("loss", NNUNET_LOSS)
            network.auxiliary_in_training = True
            network.prompts_required = network.network.needs_prompts
            network.own_outputs_in_training = loss != NNUNET_LOSS
        return network

    def on_train_start(self) -> None:
        """Prepare the training; what is not resumed starts from pretrained weights."""
        set_iterations(self, self.recipe)
        if not self.was_initialized:
            self.initialize()
            with first_goes_ahead():  # and downloads them
                self.print_to_log_file(self.load_starting_weights())
        super().on_train_start()

    def load_starting_weights(self) -> str:
        """Load what a training that is not resumed starts from; return that as a sentence."""
        return load_pretrained(self.network, self.encoder_weights)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return the ids of the training and the validation cases of this fold.

        Fold ``all`` leaves out what no fold of the split has: training images that are test images
        too. Where too few cases are there for any fold, it has all of them.
        """
        train, validation = super().do_split()
        splits_file = Path(self.preprocessed_dataset_folder_base) / SPLITS_FILE
        if self.fold != "all" or not splits_file.is_file():
            return train, validation
        folds = read_json(splits_file)
        divided = {case for fold in folds for part in fold.values() for case in part}
        left_out = sorted(set(train) - divided)
        if not folds or not left_out:
            return train, validation
        self.print_to_log_file(
            f"Left out, being in no fold of {splits_file}: {len(left_out)} case(s), "
            f"{list_some(left_out)}"
        )
        used = [case for case in train if case in divided]
        return used, used

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: the network decides by its mode."""

    def _build_loss(self) -> nn.Module:
        objective = build_objective(self.recipe, self.label_manager)
        if objective is not None:
            return objective
        return AuxiliaryLoss(super()._build_loss(), self.auxiliary_weights)

    def configure_optimizers(
        self,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return the recipe's optimiser and schedule.

        The network is on its device here, and not yet distributed over several: the moment to lay
        its weights out.
        """
        lay_out_weights(self.network, self.device)
        optimizer = build_optimizer(self.network, self.recipe)
        return optimizer, build_schedule(optimizer, self.recipe)

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        super().on_train_epoch_start()
        self._steps = 0

    def before_step(self) -> None:
        """Set the learning rate, where the schedule changes within an epoch."""
        if self.recipe.scheduler in STEPPED_BY_ITERATION:
            part = self._steps / self.num_iterations_per_epoch
            self.lr_scheduler.step(self.current_epoch + part)
        self._steps += 1

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Score the epoch; some schedules look at its loss."""
        super().on_validation_epoch_end(val_outputs)
        if isinstance(self.lr_scheduler, PlateauSchedule):
            self.lr_scheduler.observe(float(self.logger.get_value("val_losses", step=-1)))

    def on_epoch_end(self) -> None:
        """End an epoch, and the training when the recipe's patience is over."""
        super().on_epoch_end()
        check_patience(self, self.recipe.patience)

    def run_training(self) -> None:
        """Train until the last epoch, or until better ones are not to be expected."""
        try:
            super().run_training()
        except OutOfPatience as reason:
            self.print_to_log_file(str(reason))
            self.on_train_end()

    def on_train_end(self) -> None:
        """Write the final checkpoint, of the epoch that the recipe selects."""
        if self.recipe.selection == "best":
            take_best_weights(self)
        super().on_train_end()

    def _do_i_compile(self) -> bool:
        # nnU-Net compiles unless told otherwise; custom operators gain little and often fail there.
        is_asked = self.compile_network is not None or "nnUNet_compile" in os.environ
        return is_asked and super()._do_i_compile()

    def plot_network_architecture(self) -> None:
        """Do nothing: nnU-Net's drawing needs a package that is no longer maintained."""

    def print_plans(self) -> None:
        """Write the plans to the log file only: they fill several screens."""
        with captured_output(logger):
            super().print_plans()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the validation cases in this process, or this process's share of them."""
        validate(self, save_probabilities)


def apply_recipe(trainer: nnUNetTrainer, recipe: Recipe) -> None:
    """Set a recipe's numbers where nnU-Net's trainers keep them."""
    trainer.initial_lr = recipe.initial_lr
    trainer.weight_decay = recipe.weight_decay
    trainer.num_epochs = recipe.epochs
    trainer.oversample_foreground_percent = recipe.oversample_foreground
    trainer.precision = recipe.precision
    trainer.gradient_clipping = recipe.gradient_clipping
    trainer.save_every = 1  # an interruption costs at most one epoch


def set_iterations(trainer: nnUNetTrainer, recipe: Recipe) -> None:
    """Set how many batches an epoch has; without a number it sees each training image once."""
    iterations = recipe.iterations
    if iterations is None:
        planned = trainer.configuration_manager.configuration
        whole = planned["nnmedseg"]["images"] / planned["batch_size"]
        share = len(trainer.do_split()[0]) / trainer.dataset_json["numTraining"]
        iterations = max(1, round(whole * share))
    trainer.num_iterations_per_epoch = iterations
    trainer.num_val_iterations_per_epoch = validation_iterations(iterations)
