"""What every network of the package promises."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from nnmedseg.errors import SizeError, UserError
from nnmedseg.networks.fusing import fused_copy
from nnmedseg.networks.layers.layout import channels_last

NetworkT = TypeVar("NetworkT", bound="SegmentationNetwork")


class SegmentationNetwork(nn.Module):
    """A 2-D segmentation network that returns logits at the size of its input.

    A subclass is built as ``Network(input_channels, num_classes, *, deep_supervision=True, ...)``
    and passes to this constructor what it was given. Called with an image ``(B, input_channels,
    H, W)`` it returns logits ``(B, num_classes, H, W)``, or, while ``deep_supervision`` is on, a
    list of them, finest first; the first is the same either way. A network that has only one output
    always returns the tensor.

    Attributes:
        auxiliary_outputs: Names of the outputs at the end of the list that are not class logits but
            one auxiliary logit each, ``(B, 1, H, W)`` (ConDSeg's foreground, for one); they are
            for the paper's own loss. A network that has some has one output of class logits.
        frozen_parts: Names of the submodules that training leaves as they are: checkpoints do not
            hold them (see :mod:`nnmedseg.networks.frozen`), and they stay in evaluation mode.
        prompt_channels: Channels of point prompts that an image for `PlannedNetwork` may have
            behind its own, see :mod:`nnmedseg.networks.prompt_maps`.
        num_points: Points that a foreground class is prompted with in training.
        needs_prompts: Whether it finds none itself.
        fully_convolutional: Whether the logits of a pixel depend on its surroundings only, so that
            an image may be larger than those of the training.
        size_divisor: Height and width must be multiples of it. The class's holds for all options;
            an instance may have a smaller one.
        min_size: The smallest height and width in pixels; likewise.
        min_training_size: The smallest height and width that it can be trained on, where that is
            more than ``min_size``.
        input_channels: Channels of the image.
        num_classes: Channels of the logits; one is a single sigmoid logit, as in most papers.
        options: The other options that it was built with, JSON-serialisable;
            ``type(network)(input_channels, num_classes, **options)`` builds another one.
        deep_supervision: Whether to return the list; may be changed at any time.
        is_fused: Whether `fuse` made it.
    """

    fully_convolutional: bool = False
    size_divisor: int = 1
    min_size: int = 1
    min_training_size: int = 0
    prompt_channels: int = 0
    num_points: int = 0
    needs_prompts: bool = False
    frozen_parts: ClassVar[tuple[str, ...]] = ()
    auxiliary_outputs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool,
        options: dict[str, Any],
    ):
        super().__init__()
        self.input_channels = input_channels
        self.num_classes = num_classes
        self.options = options
        self.deep_supervision = deep_supervision
        self.is_fused = False

    def outputs_for_own_loss(self, image: Tensor) -> list[Tensor]:
        """Return what the paper's own loss compares with the target, in training mode.

        It is what the network returns with ``deep_supervision`` on, auxiliary logits included; a
        network whose loss lives elsewhere, or that takes prompts, overrides it.
        """
        self.deep_supervision = True
        outputs = self(image)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters for which the paper has pretrained weights and that it trains.

        A recipe may give them a learning rate of their own. A network that starts from none, or
        whose pretrained part is frozen, has none.
        """
        return []

    def fuse(self: NetworkT) -> NetworkT:
        """Return a copy for inference that is faster and gives the same logits up to rounding.

        Convolutions take on what was linear after them, batch norms before all. The copy is for
        evaluation only and has a state dict of its own: entries of the network do not load into it,
        so load them first.
        """
        network: NetworkT = copy.deepcopy(self) if self.is_fused else fused_copy(self)
        network.is_fused = True
        return network

    def train(self: NetworkT, mode: bool = True) -> NetworkT:
        """Set training or evaluation mode.

        Raises:
            UserError: Training mode is asked of a fused network.
        """
        if mode and self.is_fused:
            raise UserError(
                f"A fused {type(self).__name__} has no training mode, as its norms are gone",
                mend="train the network that it was made from, and call fuse() again",
            )
        super().train(mode)
        for part in self.frozen_parts:
            self.get_submodule(part).eval()
        return self

    def prepare(self, image: Tensor) -> Tensor:
        """Check the image and lay it out as its device likes it, see `channels_last`.

        All layers keep the layout.

        Raises:
            SizeError: See `check_input`.
        """
        self.check_input(image)
        return channels_last(image)

    def check_input(self, image: Tensor) -> None:
        """Refuse an image that the network cannot take.

        Raises:
            SizeError: It is not ``(B, input_channels, H, W)`` with H and W multiples of
                ``size_divisor`` and at least ``min_size``.
        """
        name = type(self).__name__
        shape = tuple(image.shape)
        if len(shape) != 4 or shape[1] != self.input_channels:
            raise SizeError(
                f"{name} takes images (batch, {self.input_channels}, height, width)",
                where=f"input of shape {shape}",
                mend=f"give it {self.input_channels} channels, or build it with input_channels="
                f"{shape[1] if len(shape) == 4 else 'those of the image'}",
            )
        height, width = shape[2:]
        if any(side % self.size_divisor or side < self.min_size for side in (height, width)):
            raise SizeError(
                f"{name} takes heights and widths that are multiples of {self.size_divisor}, "
                f"at least {self.min_size} pixels",
                where=f"input of {height} x {width} pixels",
                mend="pad or resize the image to such a size",
            )
