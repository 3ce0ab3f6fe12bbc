"""One rule for all networks towards nnU-Net.

A plans file names :class:`PlannedNetwork`, and nnU-Net builds it with its own argument names. It
pads to the sizes that the network accepts, returns what nnU-Net expects in training and in
evaluation, and can so be trained by nnU-Net's own trainer, by ours, and used by both predictors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from nnmedseg.networks import create_network
from nnmedseg.networks.checkpointing import checkpoint_blocks

LARGEST_LOGIT = 1000.0


class _DeepSupervisionSwitch:
    """Stands for the decoder on which nnU-Net's own trainer switches deep supervision."""

    def __init__(self, deep_supervision: bool):
        self.deep_supervision = deep_supervision


class PlannedNetwork(nn.Module):
    """A registered network as nnU-Net's plans name it.

    In evaluation it returns one tensor of logits ``(B, num_classes, H, W)`` of the input's size. In
    training it returns the list of all supervised logits of the classes, finest first, when
    ``auxiliary_in_training`` is set (our trainers do so), or with ``own_outputs_in_training`` what
    the paper's own loss takes, see `SegmentationNetwork.outputs_for_own_loss`. nnU-Net's own
    trainer instead switches ``decoder.deep_supervision``, which makes it return the list in both
    modes.

    Args:
        input_channels: Channels of the input.
        num_classes: Channels of the logits, background included.
        network: Registered name, for instance ``"rosper"``.
        strides: Only for nnU-Net's own trainer, which derives from it the scale of each supervised
            output: one entry more than there are outputs.
        deep_supervision: Return the list of outputs whatever the mode.
        checkpointing: Compute the network's blocks again in the backward pass instead of keeping
            what they compute, which takes less memory and more time; see `checkpoint_blocks`.
        options: Options of the network.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        network: str,
        strides: Sequence[Sequence[int]] | None = None,
        deep_supervision: bool = False,
        checkpointing: bool = False,
        **options: Any,
    ):
        super().__init__()
        self.network_name = network
        self.strides = strides
        self.network = create_network(network, input_channels, num_classes, **options)
        if checkpointing:
            checkpoint_blocks(self.network)
        self.decoder = _DeepSupervisionSwitch(deep_supervision)
        self.auxiliary_in_training = False
        self.own_outputs_in_training = False

    def fuse(self) -> PlannedNetwork:
        """Return a copy for inference; see `SegmentationNetwork.fuse`."""
        replaced = {id(self.network): self.network.fuse()}
        return copy.deepcopy(self, replaced).eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits of an image ``(B, C, H, W)`` of any height and width."""
        wants_all = self.decoder.deep_supervision or (self.training and self.auxiliary_in_training)
        self.network.deep_supervision = wants_all
        height, width = image.shape[2:]
        padded = pad_to_accepted_size(image, self.network.size_divisor, self.network.min_size)
        if self.training and self.own_outputs_in_training:
            outputs = self.network.outputs_for_own_loss(padded)
            return [logits[..., :height, :width].contiguous() for logits in outputs]
        outputs = self.network(padded)
        if wants_all:
            supervised = (
                [outputs] if isinstance(outputs, torch.Tensor) else self._of_classes(outputs)
            )
            return [logits[..., :height, :width].contiguous() for logits in supervised]
        logits = outputs[..., :height, :width].contiguous()
        return logits if self.training else bounded(logits)

    def _of_classes(self, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs that a loss over the classes can take."""
        return outputs[: len(outputs) - len(self.network.auxiliary_outputs)]


def bounded(logits: torch.Tensor) -> torch.Tensor:
    """Scale logits so that none exceeds 1000, which changes no label and leaves others untouched.

    nnU-Net adds tiles up in float16 with weights up to 10, and stops at the first infinity; a
    network whose batch statistics have not settled yet gives such logits.
    """
    return logits * (LARGEST_LOGIT / logits.abs().amax().clamp(min=LARGEST_LOGIT))


def accepted_size(size: int, divisor: int, minimum: int) -> int:
    """Return the smallest multiple of ``divisor`` that is at least ``size`` and ``minimum``."""
    return max(-(-size // divisor), -(-minimum // divisor)) * divisor


def pad_to_accepted_size(image: torch.Tensor, divisor: int, minimum: int) -> torch.Tensor:
    """Pad ``(B, C, H, W)`` with zeros below and to the right; zero is the mean after z-scoring."""
    height, width = image.shape[2:]
    bottom = accepted_size(height, divisor, minimum) - height
    right = accepted_size(width, divisor, minimum) - width
    if bottom == right == 0:
        return image
    return functional.pad(image, (0, right, 0, bottom))
