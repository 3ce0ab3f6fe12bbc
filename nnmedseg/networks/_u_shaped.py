"""The frame that RoSPER-Net and ASC-Seg share: four stages down, four stages up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from nnmedseg.errors import UserError
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks.layers.prediction_head import PH

_STAGES = 4


class UShapedNetwork(SegmentationNetwork):
    """Four encoder stages, decoder stages joined to them by connections, a head on each of these.

    A subclass names the modules that it is made of. The decoder halves once more inside its
    deepest stage, hence the divisor of 16.

    Attributes:
        encoder_stage: Called as ``(in_channels, channels, *, pool, d_state, d_conv, expand)``.
        decoder_stage: Called as ``(channels)``.
        connection: Called as ``(channels_below, channels)``; its module takes the encoder's map
            and the decoder's map from below.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        deep_supervision: Whether to return the logits of all four decoder stages.
        widths: Channels of the stages, finest first; those after the fourth are ignored, as in
            the authors' code.
        d_state, d_conv, expand: See `MambaBlock`.

    Raises:
        UserError: There are fewer than four widths, or one is no multiple of 4.
    """

    size_divisor = 16
    min_size = 16
    encoder_stage: ClassVar[type[nn.Module]]
    decoder_stage: ClassVar[type[nn.Module]]
    connection: ClassVar[type[nn.Module]]

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool,
        widths: Sequence[int],
        d_state: int,
        d_conv: int,
        expand: int,
    ):
        widths = _checked(widths)
        mamba = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
        super().__init__(
            input_channels,
            num_classes,
            deep_supervision=deep_supervision,
            options={"widths": widths, **mamba},
        )
        before = [input_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            self.encoder_stage(below, width, pool=stage > 0, **mamba)
            for stage, (below, width) in enumerate(zip(before, widths, strict=True))
        )
        self.decoder = nn.ModuleList(self.decoder_stage(width) for width in widths)
        self.connect = nn.ModuleList(
            self.connection(below, width) for width, below in itertools.pairwise(widths)
        )
        self.heads = nn.ModuleList(
            PH(width, num_classes, 2**stage) for stage, width in enumerate(widths)
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment images ``(B, input_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes, H, W)``, or with deep supervision a list of four, all at
            full size, finest first.

        Raises:
            SizeError: Height or width is not a multiple of 16.
        """
        x = self.prepare(image)
        encoded = []
        for stage in self.encoder:
            x = stage(x)
            encoded.append(x)
        decoded = [self.decoder[-1](x)]
        for skip, connect, stage in zip(
            encoded[-2::-1], reversed(self.connect), reversed(self.decoder[:-1]), strict=True
        ):
            decoded.append(stage(connect(skip, decoded[-1])))
        decoded.reverse()
        if not self.deep_supervision:
            return self.heads[0](decoded[0])
        return [head(x) for head, x in zip(self.heads, decoded, strict=True)]


def _checked(widths: Sequence[int]) -> list[int]:
    used = list(widths)[:_STAGES]
    if len(used) < _STAGES or any(width < 4 or width % 4 for width in used):
        raise UserError(
            "The network has four stages whose widths are multiples of 4",
            where=f"widths {', '.join(map(str, widths))}",
            mend="give four such numbers, finest stage first, for instance 16, 32, 48, 64",
        )
    return used
