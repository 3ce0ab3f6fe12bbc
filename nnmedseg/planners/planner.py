"""Plans in nnU-Net's schema: one file an architecture, all on the same preprocessed data."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnmedseg.files import read_json, write_json
from nnmedseg.nnunet.listing import LinearListing
from nnmedseg.planners.architecture import Architecture
from nnmedseg.planners.configurations import (
    NATIVE,
    PAPER,
    WORKING,
    iterations_to_see_data_once,
    mark_input,
)
from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.planners.network_plan import NetworkPlanner
from nnmedseg.planners.resolution import choose_working_resolution

SCHEMA_VERSION = 2


class MedSegPlanner(LinearListing, ExperimentPlanner):
    """nnU-Net's planner, with a working resolution for photographs and measured memory.

    Args:
        dataset_name_or_id: Data set whose fingerprint has been extracted.
        architecture: What to plan for.
        gpu_memory_target_in_gb: Memory that a training step may use, in GiB.
        working_size: Shorter side of photographs in pixels, or ``None`` for the rule of
            :mod:`nnmedseg.planners.resolution`.
    """

    dataset_fingerprint: dict[str, Any]

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
        self.facts = DatasetFacts.from_fingerprint(self.dataset_fingerprint)
        self.resolution = choose_working_resolution(self.facts, working_size)
        self.native_shapes = [tuple(s) for s in self.dataset_fingerprint["shapes_after_crop"]]
        if self.resolution.shorter_side is not None:
            # nnU-Net's planning then sees the images as they will be preprocessed.
            resized = [[1, *self.resolution.resized((h, w))] for _, h, w in self.native_shapes]
            self.dataset_fingerprint = {**self.dataset_fingerprint, "shapes_after_crop": resized}
        self.networks = NetworkPlanner(
            architecture,
            self.facts,
            self.dataset_json,
            target_gib=gpu_memory_target_in_gb,
            dataset_name=self.dataset_name[len("DatasetNNN_") :],
        )

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name the preprocessed folder by resolution, not by plans, so that all plans share it."""
        if configuration_name == WORKING and self.facts.natural:
            if self.resolution.shorter_side is None:
                configuration_name = NATIVE
            else:
                return f"nnmedseg_{WORKING}_shorter_side_{self.resolution.shorter_side}"
        return f"nnmedseg_{configuration_name}"

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
        """Count feature-map values as nnU-Net does, of a network without weights."""
        with torch.device("meta"):
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
        if len(spacing) == 3 and self.architecture.network is not None:
            # No plan: only as much as nnU-Net's planning looks at before it goes on to 2D.
            return {"patch_size": list(median_shape), "spacing": spacing}
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        details = {
            "schema": SCHEMA_VERSION,
            "trainer": self.architecture.trainer,
            "recipe": self.architecture.recipe,
            "memory_target_gib": self.UNet_vram_target_GB,
        }
        if len(spacing) == 2:
            details["resolution"] = {"reason": self.resolution.reason, **self.resolution.inputs}
        details |= self.networks.fill(
            plan, tuple(float(side) for side in median_shape), approximate_n_voxels_dataset
        )
        details["iterations_to_see_data_once"] = iterations_to_see_data_once(
            plan, approximate_n_voxels_dataset
        )
        plan["nnmedseg"] = details
        return plan

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans whole or not at all; configurations that others have added stay."""
        planned = plans["configurations"]
        two_dimensional = planned[WORKING]
        if self.architecture.network is not None:
            planned = {WORKING: two_dimensional}
        planned[NATIVE] = self._native(two_dimensional["batch_dice"])
        paper = self._paper(two_dimensional)
        if paper is not None:
            planned[PAPER] = paper
        side = self.resolution.shorter_side
        working_input = None if side is None else {"shorter_side": side}
        for name, configuration in planned.items():
            if "inherits_from" not in configuration and name != PAPER:
                mark_input(configuration, working_input if name == WORKING else None, self.facts)
        plans["configurations"] = planned
        plans["original_median_shape_after_transp"] = [
            round(float(np.median([shape[axis] for shape in self.native_shapes])))
            for axis in plans["transpose_forward"]
        ]
        recursive_fix_for_json_export(plans)
        target = Path(nnUNet_preprocessed.require()) / self.dataset_name
        target = target / f"{self.plans_identifier}.json"
        if target.is_file():
            added = read_json(target)["configurations"]
            planned.update({n: added[n] for n in added if n not in (*planned, PAPER)})
        write_json(plans, target)

    def _native(self, batch_dice: bool) -> dict[str, Any]:
        """Return nnU-Net's own choice: photographs as they are."""
        if self.resolution.shorter_side is None:
            return {"inherits_from": WORKING}
        heights, widths = ([shape[axis] for shape in self.native_shapes] for axis in (1, 2))
        median_shape = np.array([np.median(heights), np.median(widths)])
        pixels = float(np.prod(median_shape)) * self.dataset_json["numTraining"]
        plan = self.get_plans_for_configuration(
            [1.0, 1.0], median_shape, self.generate_data_identifier(NATIVE), pixels, {}
        )
        plan["nnmedseg"]["resolution"] = {"reason": "images are used as they are, as nnU-Net does"}
        return {**plan, "batch_dice": batch_dice}

    def _paper(self, two_dimensional: dict[str, Any]) -> dict[str, Any] | None:
        """Return the paper's protocol: every image squashed to its size, its intensities, batch."""
        protocol = self.networks.protocol
        if protocol is None:
            return None
        plan = deepcopy(two_dimensional)
        plan.pop("batch_dice")
        plan["data_identifier"] = protocol.data_identifier
        plan["spacing"] = [1.0, 1.0]
        plan["median_image_size_in_voxels"] = [float(side) for side in protocol.size]
        plan["nnmedseg"] |= self.networks.fill_paper(plan, protocol)
        plan["nnmedseg"]["resolution"] = {
            "reason": f"images are squashed to {protocol.size[0]}x{protocol.size[1]} pixels, "
            "as the paper does"
        }
        plan["nnmedseg"]["images"] = self._slices()
        pixels = float(np.prod(protocol.size)) * self._slices()
        plan["nnmedseg"]["iterations_to_see_data_once"] = iterations_to_see_data_once(plan, pixels)
        mark_input(plan, protocol.input, self.facts)
        return {**plan, "batch_dice": two_dimensional["batch_dice"]}

    def _slices(self) -> float:
        """Return how many two-dimensional images the training cases hold, about."""
        return (
            float(np.median([shape[0] for shape in self.native_shapes]))
            * (self.dataset_json["numTraining"])
        )
