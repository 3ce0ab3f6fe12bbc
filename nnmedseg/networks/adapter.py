"""One rule for all networks towards nnU-Net.

A plans file names :class:`PlannedNetwork`, and nnU-Net builds it with its own argument names. It
pads to the sizes that the network accepts, returns what nnU-Net expects in training and in
evaluation, and can so be trained by nnU-Net's own trainer, by ours, and used by both predictors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.networks import create_network
from nnmedseg.networks.checkpointing import checkpoint_blocks
from nnmedseg.networks.frozen import FROZEN_WEIGHTS, describe_frozen, read_frozen
from nnmedseg.networks.prompt_maps import points_of_maps

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

    Point prompts come as channels behind those of the image, see
    :mod:`nnmedseg.networks.prompt_maps`; without them it raises an error where ``prompts_required``
    is set, as our trainers do for a network that is trained with prompts only. Checkpoints are
    written with `trained_weights`, without the network's frozen parts, and `load_state_dict` finds
    these again.

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
        self.prompts_required = False
        self._frozen_note: tuple[Any, dict[str, Any]] | None = None

    def fuse(self) -> PlannedNetwork:
        """Return a copy for inference; see `SegmentationNetwork.fuse`."""
        replaced = {id(self.network): self.network.fuse()}
        return copy.deepcopy(self, replaced).eval()

    def frozen_weights(self) -> dict[str, torch.Tensor]:
        """Return the entries of the state dict that training never changes."""
        prefixes = tuple(f"network.{part}." for part in self.network.frozen_parts)
        return {name: x for name, x in self.state_dict().items() if name.startswith(prefixes)}

    def frozen_note(self) -> dict[str, Any]:
        """Return what a checkpoint says about `frozen_weights`; see `describe_frozen`."""
        frozen = self.frozen_weights()
        state = [(x.data_ptr(), x._version) for x in frozen.values()]
        if self._frozen_note is None or self._frozen_note[0] != state:
            self._frozen_note = state, describe_frozen(frozen)
        return self._frozen_note[1]

    def trained_weights(self) -> dict[str, Any]:
        """Return the state dict for a checkpoint: a note in the place of the frozen weights."""
        weights = dict(self.state_dict())
        frozen = self.frozen_weights()
        if not frozen:
            return weights
        trained = {name: value for name, value in weights.items() if name not in frozen}
        return {**trained, FROZEN_WEIGHTS: self.frozen_note()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state dict, or what `trained_weights` has returned.

        Raises:
            NotFoundError: The file of the frozen weights is missing.
            WeightsError: It is damaged.
        """
        complete = dict(state_dict)
        note = complete.pop(FROZEN_WEIGHTS, None)
        if note is not None and note["sha256"] != self.frozen_note()["sha256"]:
            complete.update(read_frozen(note))
        elif note is not None:
            complete.update(self.frozen_weights())
        return super().load_state_dict(complete, strict, assign)

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits of an image ``(B, C, H, W)`` of any height and width.

        Raises:
            UserError: Prompts are required, and there are none.
        """
        wants_all = self.decoder.deep_supervision or (self.training and self.auxiliary_in_training)
        # Beside auxiliary outputs there is one of the classes: only the paper's loss needs more.
        self.network.deep_supervision = wants_all and not self.network.auxiliary_outputs
        image, prompts = self._without_prompts(image)
        size = image.shape[2:]
        smallest = self.network.min_size
        if self.training:
            smallest = max(smallest, self.network.min_training_size)
        padded = pad_to_accepted_size(image, self.network.size_divisor, smallest)
        if self.training and self.own_outputs_in_training:
            outputs = self.network.outputs_for_own_loss(padded, *prompts)
            return [cropped(logits, padded.shape[2:], size) for logits in outputs]
        outputs = self.network(padded, *prompts)
        if wants_all:
            supervised = [outputs] if isinstance(outputs, torch.Tensor) else outputs
            return [cropped(logits, padded.shape[2:], size) for logits in supervised]
        logits = cropped(outputs, padded.shape[2:], size)
        return logits if self.training else bounded(logits)

    def _without_prompts(
        self, image: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Split what came as one tensor into the image, and points with their labels if there."""
        channels, maps = self.network.input_channels, self.network.prompt_channels
        if maps and image.shape[1] == channels + maps:
            return image[:, :channels], points_of_maps(image[:, channels:], self.network.num_points)
        if self.prompts_required and image.device.type != "meta":  # there only shapes count
            raise UserError(
                "this network needs point prompts, and was given an image alone",
                where=self.network_name,
                mend="predict with nnmedseg_predict and --prompts FILE or --prompts-from FOLDER",
            )
        return image, ()


def cropped(logits: torch.Tensor, padded: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Cut away what belongs to the padding below and to the right of an image.

    Logits of another size than the padded image's keep it, unless the image would end within one of
    their pixels: then they are brought to the image's own.

    Args:
        logits: ``(B, K, h, w)`` of the padded image.
        padded: Its height and width.
        size: Those of the image in it.
    """
    exact = all(
        side * whole % of == 0
        for side, whole, of in zip(size, logits.shape[2:], padded, strict=True)
    )
    if not exact:
        logits = functional.interpolate(logits, tuple(padded), mode="bilinear")
    height, width = (
        side * whole // of for side, whole, of in zip(size, logits.shape[2:], padded, strict=True)
    )
    return logits[..., :height, :width].contiguous()


def bounded(logits: torch.Tensor) -> torch.Tensor:
    """Scale logits so that none exceeds 1000, which changes no label and leaves others untouched.

    Each image of a batch has a factor of its own, so that it does not matter beside which it lies.
    nnU-Net adds tiles up in float16 with weights up to 10, and stops at the first infinity; a
    network whose batch statistics have not settled yet gives such logits.
    """
    largest = logits.abs().amax(dim=tuple(range(1, logits.ndim)), keepdim=True)
    return logits * (LARGEST_LOGIT / largest.clamp(min=LARGEST_LOGIT))


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
