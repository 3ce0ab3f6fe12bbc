"""What training samples go through on their way to the network."""

from __future__ import annotations

from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.trainers.augmentation import training_transforms
from nnmedseg.trainers.recipes import NNUNET_AUGMENTATION, Recipe


class AugmentingTrainer(nnUNetTrainer):
    """Augments as its recipe says: as nnU-Net, or as a paper.

    A paper's patches are whole images: none is cut out larger than it is used, and there is no
    mirroring at inference.
    """

    recipe: Recipe

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(  # noqa: N802 - nnU-Net's name
        self,
    ) -> tuple[Any, bool, Any, tuple[int, ...] | None]:
        """Return what nnU-Net's augmentation is to do, and how large a patch it starts from."""
        settings = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.recipe.augmentation == NNUNET_AUGMENTATION:
            return settings
        rotation, in_slices, _, _ = settings
        self.inference_allowed_mirroring_axes = None
        return rotation, in_slices, self.configuration_manager.patch_size, None

    # Not static as nnU-Net's, which is called on an instance too: the recipe is the instance's.
    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return what a training sample goes through; nnU-Net says with which arguments."""
        if self.recipe.augmentation == NNUNET_AUGMENTATION:
            return super().get_training_transforms(*args, **kwargs)
        prepared = self.configuration_manager.configuration.get("nnmedseg", {}).get("input", {})
        augmentation = training_transforms(
            self.recipe.augmentation,
            patch_size=self.configuration_manager.patch_size,
            original_size=self.plans_manager.plans["original_median_shape_after_transp"][-2:],
            intensity=prepared.get("intensity"),
            form=self.recipe.loss_form,
        )
        manager = self.label_manager
        labels = self.get_validation_transforms(
            self._get_deep_supervision_scales(),
            is_cascaded=self.is_cascaded,
            foreground_labels=manager.foreground_labels,
            regions=manager.foreground_regions if manager.has_regions else None,
            ignore_label=manager.ignore_label,
        )
        return ComposeTransforms([augmentation, labels])
