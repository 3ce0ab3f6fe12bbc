"""Plans in nnU-Net's schema: one file an architecture, all on the same preprocessed data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnmedseg.networks import get_network_class
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.planners.memory import TrainingMemory, measure_training_memory
from nnmedseg.planners.patches import GIB, PatchPlan, choose_patch_and_batch
from nnmedseg.planners.resolution import WorkingResolution, choose_working_resolution, is_natural

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CONFIGURATION = "2d"


@dataclass(frozen=True)
class Architecture:
    """What is to be planned for.

    Attributes:
        plans_name: Name of the plans file without its ending.
        network: Registered network, or ``None`` for nnU-Net's own U-Net.
        options: Options of the network that differ from its defaults.
        recipe: Training settings that the trainer finds in the plans.
    """

    plans_name: str
    network: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)


class MedSegPlanner(ExperimentPlanner):
    """nnU-Net's planner, with a working resolution for photographs and measured memory.

    Args:
        dataset_name_or_id: Data set whose fingerprint has been extracted.
        architecture: What to plan for.
        gpu_memory_target_in_gb: Memory that a training step may use, in GiB.
        working_size: Shorter side of the median natural image in pixels, or ``None`` for the rule
            of :mod:`nnmedseg.planners.resolution`.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        architecture: Architecture,
        gpu_memory_target_in_gb: float = 8,
        working_size: int | None = None,
    ):
        super().__init__(
            dataset_name_or_id, gpu_memory_target_in_gb, plans_name=architecture.plans_name
        )
        self.architecture = architecture
        self.resolution = self._choose_resolution(working_size)

    def _choose_resolution(self, working_size: int | None) -> WorkingResolution | None:
        if not is_natural(self.dataset_fingerprint["spacings"]):
            return None
        return choose_working_resolution(
            self.dataset_fingerprint["shapes_after_crop"], working_size
        )

    def determine_fullres_target_spacing(self) -> npt.NDArray[np.float64]:
        """Return ``(z, y, x)``: our resolution for photographs, nnU-Net's for volumes."""
        if self.resolution is None:
            return super().determine_fullres_target_spacing()
        across = self.dataset_fingerprint["spacings"][0][0]
        return np.array([across, self.resolution.pixel_spacing, self.resolution.pixel_spacing])

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name the preprocessed folder by resolution, not by plans, so that all plans share it."""
        identifier = f"nnmedseg_{configuration_name}"
        if self.resolution is None or self.resolution.pixel_spacing == 1:
            return identifier
        return f"{identifier}_spacing{self.resolution.pixel_spacing:.3f}"

    def determine_segmentation_softmax_export_fn(
        self, *_args: Any, **_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return nnU-Net's torch resampling: the same bilinear result as its default, faster."""
        return resample_torch_fornnunet, {"is_seg": False, "force_separate_z": False}

    @staticmethod
    def static_estimate_VRAM_usage(  # noqa: N802, PLR0917 - nnU-Net's signature
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Count feature-map values as nnU-Net does, which fails with ``nnUNet_n_proc_DA=0``."""
        network = get_network_from_plans(
            arch_class_name,
            arch_kwargs,
            arch_kwargs_req_import,
            input_channels,
            output_channels,
            allow_init=False,
        )
        return network.compute_conv_feature_map_size(patch_size)

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float] | npt.NDArray[np.float64],
        median_shape: Sequence[float] | npt.NDArray[np.float64],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """Return nnU-Net's plan for its own network, or ours for a registered one (2D only)."""
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        details: dict[str, Any] = {"schema": SCHEMA_VERSION, "recipe": self.architecture.recipe}
        if self.resolution is not None:
            details["resolution"] = self.resolution.reason
        if self.architecture.network is not None and len(spacing) == 2:
            height, width = (float(side) for side in median_shape)
            chosen = self._plan_network((height, width), approximate_n_voxels_dataset)
            plan["patch_size"] = list(chosen.patch_size)
            plan["batch_size"] = chosen.batch_size
            plan["architecture"] = self._describe_network(chosen.outputs)
            details["predicted_memory_gib"] = round(chosen.memory / GIB, 2)
        return {**plan, "nnmedseg": details}

    def _plan_network(self, median_shape: tuple[float, float], pixels: float) -> PatchPlan:
        name = self.architecture.network
        if name is None:
            raise TypeError("only a registered network is planned here")
        network_class = get_network_class(name)
        channels = len(self.dataset_json["channel_names"])
        classes = len(self.dataset_json["labels"])

        def build() -> nn.Module:
            network = PlannedNetwork(channels, classes, network=name, **self.architecture.options)
            network.auxiliary_in_training = True
            return network

        def measure(patch_size: tuple[int, int]) -> TrainingMemory:
            return measure_training_memory(build, channels, patch_size)

        return choose_patch_and_batch(
            median_shape,
            size_divisor=network_class.size_divisor,
            min_size=network_class.min_size,
            measure=measure,
            target_gib=self.UNet_vram_target_GB,
            pixels_in_dataset=pixels,
        )

    def _describe_network(self, outputs: int) -> dict[str, Any]:
        return {
            "network_class_name": f"{PlannedNetwork.__module__}.{PlannedNetwork.__name__}",
            "arch_kwargs": {
                "network": self.architecture.network,
                # All supervised outputs have the input's size: nnU-Net's own trainer reads it here.
                "strides": [[1, 1]] * (outputs + 1),
                **self.architecture.options,
            },
            "_kw_requires_import": [],
        }

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans with the 2D configuration only."""
        plans["configurations"] = {CONFIGURATION: plans["configurations"][CONFIGURATION]}
        super().save_plans(plans)
