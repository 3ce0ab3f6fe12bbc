"""ConDSeg's network of the first training stage, Consistency Reinforcement (CR).

Paper and code as for `condseg`, whose encoder this stage trains: against the mask, and against its
own prediction for a strongly augmented copy of the image. `encoder_from_stage1` hands it on.

What differs from the authors' code:

- It returns logits; theirs ends in a sigmoid.
- Image channels, classes and the head's width are free.
- The head's 1x1 convolutions come before the maps are enlarged: the same up to rounding, because
  they have no bias. Batch normalisation and ReLU stay after it.
- The authors have this stage for the ResNet only. With ``encoder="pvt_v2_b2"`` it is the same head
  on that encoder's four maps, which is our extrapolation.
"""

from __future__ import annotations

from torch import Tensor, nn

from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks._registry import register_network
from nnmedseg.networks.cards.condseg import CONDSEG_STAGE1
from nnmedseg.networks.layers.cbr import CBR
from nnmedseg.networks.layers.convolution import ConcatenatedPointwise
from nnmedseg.networks.layers.resampling import EnlargedPointwise
from nnmedseg.networks.layers.strong_view import strong_view
from nnmedseg.networks.layers.timm_encoder import TimmEncoder


@register_network("condseg_stage1", CONDSEG_STAGE1)
class ConDSegStage1(SegmentationNetwork):
    """The encoder with a light head; see the module's text and `SegmentationNetwork`.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits.
        deep_supervision: Without effect, because there is one output.
        encoder: ``resnet50`` or ``pvt_v2_b2``; see `TIMM_ENCODERS`.
        width: Channels that each of the encoder's maps is reduced to.

    Attributes:
        size_divisor: 16 with the ResNet, 32 with the transformer; the class's suits both.
        min_size: The same.

    Raises:
        UserError: There is no such encoder.
    """

    size_divisor = 32
    min_size = 32

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        encoder: str = "resnet50",
        width: int = 64,
    ):
        super().__init__(
            input_channels,
            num_classes,
            deep_supervision=deep_supervision,
            options={"encoder": encoder, "width": width},
        )
        self.encoder = TimmEncoder(encoder, input_channels)
        self.size_divisor = self.min_size = self.encoder.reductions[-1]
        scales = zip(self.encoder.channels, self.encoder.reductions, strict=True)
        self.reduce = nn.ModuleList(
            EnlargedPointwise(*CBR(channels, width, 1), factor=scale) for channels, scale in scales
        )
        self.project = ConcatenatedPointwise(len(self.reduce) * width, num_classes, bias=False)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's, see `SegmentationNetwork.encoder_parameters`."""
        return list(self.encoder.parameters())

    def outputs_for_own_loss(self, image: Tensor) -> list[Tensor]:
        """Return logits of the image and of its `strong_view`.

        They come from two passes, so that batch normalisation counts both.
        """
        return [self(image), self(strong_view(image))]

    def forward(self, image: Tensor) -> Tensor:
        """Segment images ``(B, input_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes, H, W)``.

        Raises:
            SizeError: Height or width is no multiple of ``size_divisor``.
        """
        features = self.encoder(self.prepare(image))
        reduced = [reduce(x) for reduce, x in zip(self.reduce, features, strict=True)]
        return self.project(*reduced)
