"""The configurations of a plans file, and what each says beyond nnU-Net's schema."""

from __future__ import annotations

import math
from typing import Any

from nnmedseg.planners.facts import DatasetFacts

WORKING = "2d"
"""Our rule's choice, what the commands use by default."""

NATIVE = "2d_native"
"""nnU-Net's own choice, for comparison."""

PAPER = "2d_paper"
"""The paper's protocol."""

ARCHITECTURES = "nnmedseg.nnunet.architectures"
"""Module that plans name as the home of a network where the data need this package: importing it
makes our preprocessor and store known to nnU-Net."""

PREPROCESSOR = "MedSegPreprocessor"
STORE_OF_BYTES = "uint8"


def mark_input(
    configuration: dict[str, Any], given: dict[str, Any] | None, facts: DatasetFacts
) -> None:
    """Write into a configuration what its images are brought to, and how they are stored.

    Args:
        configuration: Of a plans file; changed.
        given: The ``input`` key, or ``None`` for nnU-Net's own rules.
        facts: Of the data set.
    """
    details = configuration["nnmedseg"]
    if given is not None:
        details["input"] = given
        configuration["preprocessor_name"] = PREPROCESSOR
    scaled_alone = given is not None and "intensity" in given
    masked = any(configuration["use_mask_for_norm"]) and not scaled_alone
    if facts.natural and facts.eight_bit and not masked:
        details["store"] = STORE_OF_BYTES
    if "input" in details or "store" in details:
        details["requires"] = "nnmedseg"
        architecture = configuration["architecture"]
        name = architecture["network_class_name"].rpartition(".")[2]
        architecture["network_class_name"] = f"{ARCHITECTURES}.{name}"


def iterations_to_see_data_once(configuration: dict[str, Any], pixels: float) -> int:
    """Return how many batches hold as many pixels (voxels) as the training cases together."""
    batch = configuration["batch_size"] * math.prod(configuration["patch_size"])
    return max(1, math.ceil(pixels / batch))
