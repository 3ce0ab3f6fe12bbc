"""Which images a network may see at once instead of tile by tile."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnmedseg.networks.adapter import PlannedNetwork

MOST_PATCHES = 4
"""How many times the pixels of a patch an image may have to be seen at once."""

NNUNETS_NETWORKS = "dynamic_network_architectures.architectures."


def is_fully_convolutional(network: nn.Module) -> bool:
    """Tell whether what a network says of a pixel depends on its surroundings only.

    That is so for nnU-Net's own networks, up to the statistics of their norms. A state-space scan
    or attention over the whole input was trained on the size of a patch, and is given no other.
    """
    network = getattr(network, "_orig_mod", network)
    if isinstance(network, PlannedNetwork):
        return network.network.fully_convolutional
    return type(network).__module__.startswith(NNUNETS_NETWORKS)


def whole_image_patch(
    patch_size: Sequence[int], shape: Sequence[int], configuration: ConfigurationManager
) -> tuple[int, int] | None:
    """Return the height and width of a tile that holds a whole image, or ``None`` for volumes.

    Images of more than `MOST_PATCHES` patches go by tiles too, which bounds the memory.

    Args:
        patch_size: The planned one.
        shape: Slices, height and width of the preprocessed image.
        configuration: Tells the strides of nnU-Net's networks.
    """
    if len(patch_size) != 2:
        return None
    strides = configuration.network_arch_init_kwargs.get("strides") or [[1, 1]]
    divisors = [math.prod(stride[axis] for stride in strides) for axis in (0, 1)]
    sides = zip(shape[1:], patch_size, divisors, strict=True)
    height, width = (
        planned if side <= planned else math.ceil(side / divisor) * divisor
        for side, planned, divisor in sides
    )
    if height * width > MOST_PATCHES * math.prod(patch_size):
        return None
    return height, width
