"""The papers' own image size, intensities and batch, for configuration ``2d_paper``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnmedseg.losses import is_binary
from nnmedseg.networks import create_network
from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.weights.model_folder import released_input

# Those of the papers' code. HeteroMedSeg's differ by data set.
BATCH_SIZES = {
    "rosper": 8,
    "asc": 8,
    "condseg_stage1": 8,
    "condseg": 12,
    "promise_apm": 8,
    "promise_apm_ips": 8,
    "promise_ips_gt": 8,
}
HETEROMEDSEG_BATCH_SIZES = {"": 44, "ISIC2018": 42, "several_classes": 24}
SEVERAL_CLASSES = "several_classes"
NNUNET_LOSS = "nnunet"

_Variant = TypeVar("_Variant")


@dataclass(frozen=True)
class PaperProtocol:
    """How a paper feeds its network.

    Attributes:
        size: Height and width that every image is squashed to, in pixels.
        resize: How; see ``RESIZINGS`` of the released inputs.
        intensity: How intensities are scaled, or ``None`` for nnU-Net's normalisation where the
            paper's is for other images (ImageNet's colours, Hounsfield units).
        batch_size: Images in a batch.
    """

    size: tuple[int, int]
    resize: str
    intensity: str | None
    batch_size: int

    @property
    def input(self) -> dict[str, Any]:
        """The ``input`` key of the configuration."""
        given: dict[str, Any] = {"size": list(self.size), "resize": self.resize}
        return given if self.intensity is None else {**given, "intensity": self.intensity}

    @property
    def data_identifier(self) -> str:
        """Name of the preprocessed folder, shared by all networks with this protocol."""
        height, width = self.size
        parts = (f"{height}x{width}", self.resize, self.intensity or "normalized")
        return "_".join(("nnmedseg_2d_paper", *parts))


def paper_protocol(
    network: str,
    options: dict[str, Any],
    facts: DatasetFacts,
    *,
    channel_names: list[str],
    classes: int,
    dataset_name: str,
) -> PaperProtocol | None:
    """Return how the paper of a network would feed a data set to it.

    Args:
        network: Registered name.
        options: Options of the network that differ from its defaults.
        facts: Of the data set.
        channel_names: Of the data set.
        classes: Channels of the logits, background included.
        dataset_name: Without its number, for instance ``"ISIC2018"``.

    Returns:
        The protocol, or ``None`` for a network whose paper's protocol is not known.
    """
    binary = classes == 2
    batch_size = BATCH_SIZES.get(network)
    if network == "heteromedseg":
        batch_size = choose_variant(HETEROMEDSEG_BATCH_SIZES, classes, dataset_name)
    if batch_size is None:
        return None
    with torch.device("meta"):
        built = create_network(network, len(channel_names), 1 if binary else classes, **options)
    released = released_input(network, built)
    return PaperProtocol(
        size=released.size,
        resize=released.resize,
        intensity=released.intensity if _fits(released.intensity, facts, channel_names) else None,
        batch_size=batch_size,
    )


def choose_variant(
    variants: Mapping[str, _Variant], classes: int, dataset_name: str
) -> _Variant | None:
    """Return what a paper has for a data set, or for data with as many classes.

    Args:
        variants: Under ``""`` that for all data, under ``"several_classes"`` that for more than one
            foreground class, under names of data sets that for these.
        classes: Background included.
        dataset_name: Without its number.
    """
    if classes > 2:
        return variants.get(SEVERAL_CLASSES, variants.get(""))
    return variants.get(dataset_name, variants.get(""))


def paper_recipe(
    recipes: Mapping[str, dict[str, Any]], labels: LabelManager, dataset_name: str
) -> tuple[dict[str, Any], str] | None:
    """Return the recipe of a paper for a data set, and how its loss suits the labels.

    A loss that does not suit them gives way to nnU-Net's.

    Args:
        recipes: See `choose_variant`.
        labels: Of the data set.
        dataset_name: Without its number.
    """
    recipe = choose_variant(recipes, labels.num_segmentation_heads, dataset_name)
    if recipe is None:
        return None
    obstacle = None
    if labels.has_regions:
        obstacle = "overlapping regions"
    elif labels.has_ignore_label:
        obstacle = "an ignore label"
    elif labels.num_segmentation_heads > 2 and is_binary(recipe["loss"]):
        obstacle = "several foreground classes"
    if obstacle is None:
        return recipe, "the paper's loss, optimiser, schedule and augmentation"
    return (
        {**recipe, "loss": NNUNET_LOSS},
        f"the paper's optimiser, schedule and augmentation, but nnU-Net's loss: the paper's is not "
        f"made for {obstacle}",
    )


def _fits(intensity: str, facts: DatasetFacts, channel_names: list[str]) -> bool:
    """Tell whether a paper's intensities make sense for these images."""
    if intensity == "imagenet":
        return facts.natural and len(channel_names) == 3
    if intensity == "synapse":
        return [name.lower() for name in channel_names] == ["ct"]
    if intensity == "divided_by_255":
        return facts.natural and facts.eight_bit
    return True
