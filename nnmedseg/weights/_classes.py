"""From the papers' one sigmoid logit to two classes with a softmax."""

from __future__ import annotations

import torch

from nnmedseg.errors import WeightsError
from nnmedseg.networks import SegmentationNetwork


def to_two_classes(network: SegmentationNetwork) -> SegmentationNetwork:
    """Copy a one-logit network into one with two classes, whose background logit is zero.

    The softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)), so it predicts the same masks.

    Args:
        network: A registered network with ``num_classes`` 1; it is left as it is.

    Returns:
        A network of the same kind, options, device and type with ``num_classes`` 2.

    Raises:
        WeightsError: The network has more than one class.
    """
    if network.num_classes != 1:
        raise WeightsError(
            f"Only a network with one logit can be given two classes, "
            f"this one has {network.num_classes}",
            where=type(network).__name__,
        )
    two = type(network)(
        network.input_channels,
        2,
        deep_supervision=network.deep_supervision,
        **network.options,
    )
    state = network.state_dict()
    for name, entry in two.state_dict().items():
        if entry.shape != state[name].shape:  # a head: its first axis is the classes
            foreground = state[name]
            state[name] = torch.cat([torch.zeros_like(foreground), foreground])
    two.load_state_dict(state)
    reference = next(network.parameters())
    return two.to(device=reference.device, dtype=reference.dtype).train(network.training)
