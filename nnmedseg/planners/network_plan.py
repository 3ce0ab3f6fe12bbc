"""Patch, batch and memory of one architecture in one configuration."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from nnmedseg.networks import create_network, get_network_class
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.planners.architecture import Architecture
from nnmedseg.planners.configurations import ARCHITECTURES
from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.planners.memory import (
    TrainingMemory,
    build_without_values,
    measure_training_memory,
)
from nnmedseg.planners.patches import GIB, choose_patch_and_batch
from nnmedseg.planners.protocols import PaperProtocol, paper_protocol, paper_recipe


class NetworkPlanner:
    """Measures one architecture for one data set.

    Args:
        architecture: What to plan for.
        facts: Of the data set.
        dataset_json: Its description.
        target_gib: Memory that a training step may use, in GiB.
        dataset_name: Without its number, for instance ``"ISIC2018"``.
    """

    def __init__(
        self,
        architecture: Architecture,
        facts: DatasetFacts,
        dataset_json: dict[str, Any],
        *,
        target_gib: float,
        dataset_name: str,
    ):
        labels = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
        channel_names = list(dataset_json["channel_names"].values())
        architecture = _with_regions(architecture) if labels.has_regions else architecture
        self.architecture = architecture
        self.channels = len(channel_names)
        self.classes = labels.num_segmentation_heads
        self.target_gib = target_gib
        self.protocol = (
            None
            if architecture.network is None
            else paper_protocol(
                architecture.network,
                architecture.options,
                facts,
                channel_names=channel_names,
                classes=self.classes,
                dataset_name=dataset_name,
            )
        )
        self.paper_recipe = paper_recipe(architecture.paper_recipes, labels, dataset_name)

    def fill(
        self, plan: dict[str, Any], median_shape: tuple[float, ...], pixels: float
    ) -> dict[str, Any]:
        """Choose patch and batch of a registered network; measure nnU-Net's own as it is planned.

        Args:
            plan: nnU-Net's plan; patch, batch and architecture of a registered network are written
                into it.
            median_shape: Of the preprocessed images, in pixels or voxels.
            pixels: Of all training images together.

        Returns:
            What the plan says about it in our own key.
        """
        if self.architecture.network is None:
            memory = self._measure_unet(plan)
            return _predicted(memory.total(plan["batch_size"]))
        network_class = get_network_class(self.architecture.network)
        height, width = median_shape
        chosen = choose_patch_and_batch(
            (height, width),
            size_divisor=network_class.size_divisor,
            min_size=max(network_class.min_size, self._min_training_size()),
            measure=self._measure,
            target_gib=self.target_gib,
            pixels_in_dataset=pixels,
        )
        plan["patch_size"] = list(chosen.patch_size)
        plan["batch_size"] = chosen.batch_size
        plan["architecture"] = self._describe(chosen.outputs, checkpointing=chosen.checkpointing)
        return {"patch": chosen.reason, **_predicted(chosen.memory)}

    def fill_paper(self, plan: dict[str, Any], protocol: PaperProtocol) -> dict[str, Any]:
        """Take patch and batch from the paper, and say where they need more memory than there is.

        Args:
            plan: Plan of configuration ``2d``; changed.
            protocol: The paper's.

        Returns:
            What the plan says about it in our own key.
        """
        memory = self._measure(protocol.size, False, as_in_paper=True)
        needed = memory.total(protocol.batch_size)
        height, width = protocol.size
        reason = f"{protocol.batch_size} whole images of {height}x{width}, as the paper has them"
        if needed > self.target_gib * GIB:
            fitting = memory.largest_batch(int(self.target_gib * GIB))
            reason += f", need {needed / GIB:.1f} GiB, more than {self.target_gib:g} GiB: " + (
                f"--batch-size {fitting} fits" if fitting else "not even one fits"
            )
        plan["patch_size"] = list(protocol.size)
        plan["batch_size"] = protocol.batch_size
        outputs = len(plan["architecture"]["arch_kwargs"]["strides"]) - 1
        plan["architecture"] = self._describe(outputs, checkpointing=False)
        details = {"patch": reason, **_predicted(needed)}
        if self.paper_recipe is not None:
            details["recipe"], details["protocol"] = self.paper_recipe
        return details

    def _min_training_size(self) -> int:
        """Return what the network's options ask of a patch."""
        if self.architecture.network is None:
            raise TypeError("only a registered network tells it")
        name, options = self.architecture.network, self.architecture.options
        network = build_without_values(
            lambda: create_network(name, self.channels, self.classes, **options)
        )
        return network.min_training_size

    def _measure(
        self, patch_size: tuple[int, int], checkpointing: bool, *, as_in_paper: bool = False
    ) -> TrainingMemory:
        if self.architecture.network is None:
            raise TypeError("only a registered network is measured here")
        options = dict(self.architecture.options, network=self.architecture.network)
        if checkpointing:
            options["checkpointing"] = True
        return _measure_registered(
            json.dumps(options, sort_keys=True),
            (self.channels, self.classes),
            patch_size,
            self.architecture.optimizer,
            as_in_paper,
        )

    def _measure_unet(self, plan: dict[str, Any]) -> TrainingMemory:
        architecture = plan["architecture"]

        def build() -> nn.Module:
            return get_network_from_plans(
                architecture["network_class_name"],
                architecture["arch_kwargs"],
                architecture["_kw_requires_import"],
                self.channels,
                self.classes,
                allow_init=False,
                deep_supervision=True,
            )

        return measure_training_memory(
            build,
            self.channels,
            tuple(int(side) for side in plan["patch_size"]),
            optimizer=self.architecture.optimizer,
        )

    def _describe(self, outputs: int, *, checkpointing: bool) -> dict[str, Any]:
        return {
            "network_class_name": f"{ARCHITECTURES}.{PlannedNetwork.__name__}",
            "arch_kwargs": {
                "network": self.architecture.network,
                # All supervised outputs have the input's size: nnU-Net's own trainer reads it here.
                "strides": [[1, 1]] * (outputs + 1),
                **self.architecture.options,
                **({"checkpointing": True} if checkpointing else {}),
            },
            "_kw_requires_import": [],
        }


def _with_regions(architecture: Architecture) -> Architecture:
    """Tell a network that wants to know it that no channel of its logits is the background's."""
    if architecture.network is None:
        return architecture
    parameters = inspect.signature(get_network_class(architecture.network)).parameters
    if "regions" not in parameters:
        return architecture
    return replace(architecture, options={**architecture.options, "regions": True})


@lru_cache(maxsize=256)
def _measure_registered(
    options: str,
    channels: tuple[int, int],
    patch_size: tuple[int, int],
    optimizer: str,
    as_in_paper: bool,
) -> TrainingMemory:
    """Measure a network once for all data sets and configurations with the same patch.

    As in the paper it is trained in single precision, and gives what the paper's loss takes.
    """

    def build() -> nn.Module:
        network = PlannedNetwork(*channels, **json.loads(options))
        network.auxiliary_in_training = True
        network.own_outputs_in_training = as_in_paper  # its loss takes more of some networks
        return network

    memory = measure_training_memory(
        build,
        channels[0],
        patch_size,
        optimizer=optimizer,
        mixed_precision=not as_in_paper,
    )
    return memory.with_context() if as_in_paper else memory


def _predicted(memory: int) -> dict[str, Any]:
    return {"predicted_memory_gib": round(memory / GIB, 2)}
