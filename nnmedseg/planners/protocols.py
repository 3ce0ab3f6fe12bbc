"""The papers' own image size, intensities and batch, for configuration ``2d_paper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnmedseg.networks import create_network
from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.weights.model_folder import released_input

# Recipes of the papers' code. HeteroMedSeg's differ by data set: 24 on Synapse, 42 on ISIC 2018, 44
# on CVC-ClinicDB and the rectal cancer set.
BATCH_SIZES = {
    "rosper": 8,
    "asc": 8,
    "condseg_stage1": 8,
    "condseg": 12,
    "promise_apm": 8,
    "promise_apm_ips": 8,
    "promise_ips_gt": 8,
}
HETEROMEDSEG_BINARY_BATCH = 44
HETEROMEDSEG_SYNAPSE_BATCH = 24


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
    channel_names: list[str],
    classes: int,
) -> PaperProtocol | None:
    """Return how the paper of a network would feed a data set to it.

    Args:
        network: Registered name.
        options: Options of the network that differ from its defaults.
        facts: Of the data set.
        channel_names: Of the data set.
        classes: Channels of the logits, background included.

    Returns:
        The protocol, or ``None`` for a network whose paper's protocol is not known.
    """
    binary = classes == 2
    batch_size = BATCH_SIZES.get(network)
    if network == "heteromedseg":
        batch_size = HETEROMEDSEG_BINARY_BATCH if binary else HETEROMEDSEG_SYNAPSE_BATCH
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


def _fits(intensity: str, facts: DatasetFacts, channel_names: list[str]) -> bool:
    """Tell whether a paper's intensities make sense for these images."""
    if intensity == "imagenet":
        return facts.natural and len(channel_names) == 3
    if intensity == "synapse":
        return [name.lower() for name in channel_names] == ["ct"]
    if intensity == "divided_by_255":
        return facts.natural and facts.eight_bit
    return True
