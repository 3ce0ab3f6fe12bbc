"""How training samples come to the network, and what they go through on their way."""

from __future__ import annotations

from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnmedseg.trainers.recipes import NNUNET_AUGMENTATION, Recipe
from nnmedseg.training.augmentation import training_transforms
from nnmedseg.training.sample_loader import SampleLoader

FEWEST_PREPARED = (6, 3)
"""Batches of training and of validation that wait for the network; nnU-Net's own numbers."""


class QuickLoadingTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a loader of images that makes the same batches with less work."""

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return what draws batches for training and for validation.

        Volumes, and trainers with loaders of their own, are left to nnU-Net.
        """
        patch_size = self.configuration_manager.patch_size
        own_loaders = getattr(super().get_dataloaders, "__func__", None)
        if len(patch_size) != 2 or own_loaders is not nnUNetTrainer.get_dataloaders:
            return super().get_dataloaders()
        if getattr(self, "dataset_class", None) is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        initial_size, training, validation = self._transforms()
        cases = self.get_tr_and_val_datasets()
        return (
            self._prepared(cases[0], initial_size, training, share=1),
            self._prepared(cases[1], patch_size, validation, share=2),
        )

    def _transforms(self) -> tuple[Any, BasicTransform, BasicTransform]:
        """Return the initial patch size, and what samples go through."""
        scales = self._get_deep_supervision_scales()
        manager = self.label_manager
        labels = {
            "is_cascaded": self.is_cascaded,
            "foreground_labels": manager.foreground_labels,
            "regions": manager.foreground_regions if manager.has_regions else None,
            "ignore_label": manager.ignore_label,
        }
        rotation, in_slices, initial_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        training = self.get_training_transforms(
            self.configuration_manager.patch_size,
            rotation,
            scales,
            mirror_axes,
            in_slices,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
            **labels,
        )
        return initial_size, training, self.get_validation_transforms(scales, **labels)

    def _prepared(self, cases: Any, size: Any, transforms: BasicTransform, *, share: int) -> Any:
        """Return batches prepared by a share of the processes: one of one, or one of two."""
        loader = SampleLoader(
            cases,
            self.batch_size,
            size,
            self.configuration_manager.patch_size,
            self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            transforms=transforms,
            probabilistic_oversampling=self.probabilistic_oversampling,
        )
        processes = get_allowed_n_proc_DA()
        if processes == 0:
            batches = SingleThreadedAugmenter(loader, None)
        else:
            batches = NonDetMultiThreadedAugmenter(
                loader,
                None,
                num_processes=max(1, processes // share),
                num_cached=max(FEWEST_PREPARED[share - 1], processes // (2 * share)),
                pin_memory=self.device.type == "cuda",
                wait_time=0.002,
            )
        next(batches)  # the processes start here, not in the first step
        return batches


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
