"""ProMISe: a frozen SAM that prompts itself and whose mask tokens are shifted.

Paper: "ProMISe: Promptable Medical Image Segmentation using SAM" (arXiv 2403.04164); code
xinkunwang111/ProMISe at ce0cfdb, MIT.

Image encoder, prompt encoder and mask decoder are SAM's and frozen. An auto-prompting module
(APM) finds points, eight in the foreground and eight in the background, from maps of the image
encoder; incremental pattern shifting (IPS) adds a shift, found from the image's embedding, to the
mask tokens. Of SAM's masks the first of the three for several masks is the result. Three networks:

- ``promise_apm``: points by the APM.
- ``promise_apm_ips``: points by the APM, tokens shifted by IPS.
- ``promise_ips_gt``: tokens shifted by IPS, points given by the caller, in the paper drawn from
  the ground truth (`ProMISe.sample_points`) in training and in evaluation. Its published numbers
  are those of an oracle. Called with an image alone it runs SAM without any prompt (no sparse
  token at all), which it never saw in training.

All three take given points, ``network(image, points, labels)``; in the two with an APM these
replace its points (the paper's evaluation ``APM_IPS_GT``).

What differs from the authors' code:

- It returns logits, enlarged bilinearly to the input; theirs returns masks after a sigmoid at a
  quarter of the size, where their loss and metrics live too: `ProMISe.low_resolution_logits`
  gives these logits, `ProMISe.predict_masks` all three masks with everything else.
- The input is resized to ``sam_size`` square in the network, and the logits back, because a frozen
  SAM is at home at 1024 x 1024. With ``sam_size=None`` it runs at the input's own size, any
  multiple of 16, with SAM's position embedding and tables resized; points scale with width and
  height.
- Channels: three pass on, one is repeated, any other number goes through a trained 1x1
  convolution that starts as the mean.
- Classes: each foreground class has its own points and shifts (more rows in two linear layers), a
  softmax gets a zero background logit in front of them. With one foreground class the shapes are
  theirs.
- Points and their encoding stay in float32 under autocast.
- The whole batch goes through prompt encoder and mask decoder at once; theirs loops over images.
- Sizes, the encoder's taps and the points' scale are theirs for ViT-B at 1024 and follow SAM's
  variant otherwise; theirs are fixed numbers.
- ``fc2`` of their ResNet, computed and never used (525,312 parameters), is not built.
- Their APM variant ``cross`` is left out.

Each image must be normalised with ImageNet's mean and standard deviation, as theirs; with
``normalize=True`` the network does it to images from 0 to 1.

Height and width are multiples of 16. Training an APM needs more than 256 pixels, of ``sam_size`` or
without it of the image: the last maps that its batch norm sees have 1/256 of that, rounded up, and
over one pixel and a batch of two its gradients grow with each layer (to 1e12 at 16 pixels, beyond
bfloat16's reach). At 1024 the last map is 4 x 4 and a batch of one trains too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.errors import SizeError, UserError
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks._registry import register_network
from nnmedseg.networks.cards.promise import PROMISE_APM, PROMISE_APM_IPS, PROMISE_IPS_GT
from nnmedseg.networks.layers.auto_prompting import APM, IPS
from nnmedseg.networks.layers.point_sampling import points_from_mask
from nnmedseg.networks.layers.rgb import ToRGB
from nnmedseg.networks.layers.sam.mask_decoder import NUM_MASK_TOKENS
from nnmedseg.networks.layers.sam.model import (
    PATCH_SIZE,
    SamMasks,
    build_sam,
    last_of_each_quarter,
)
from nnmedseg.ops._precision import at_least_float32

_SEVERAL_MASKS = slice(1, NUM_MASK_TOKENS)
_TRAINED_MASK = slice(1, 2)

SMALLEST_TRAINED_APM = 272
"""Side in pixels, the first multiple of 16 at which the last maps of an APM have two pixels."""


@dataclass(frozen=True)
class PromptedMasks:
    """SAM's masks of M = images x foreground classes, class by class within an image.

    Attributes:
        logits: ``(M, 3, S / 4, S / 4)`` where S is the size at which SAM runs; the first of the
            three is trained and used.
        iou: ``(M, 3)``, SAM's own prediction of their quality.
        points: ``(M, P, 2)``, x and y in pixels of SAM's input, or ``None`` without prompts.
        labels: ``(M, P)``, 1 for foreground and 0 for background, or ``None``.
        sparse: ``(M, P + 1, 256)``, the embedded points and SAM's padding point, or ``None``.
    """

    logits: Tensor
    iou: Tensor
    points: Tensor | None
    labels: Tensor | None
    sparse: Tensor | None


class ProMISe(SegmentationNetwork):
    """What the three networks share; see the module's text and `SegmentationNetwork`.

    Parameters of ``sam`` are frozen. As no parameter of the image encoder is trained, and none
    before it unless the image has channels for an input convolution, autograd records nothing
    there.

    Args:
        input_channels: Channels of the image.
        num_classes: Channels of the logits: one for a sigmoid, more for a softmax whose first
            class is the background.
        deep_supervision: Without effect, there is only one output.
        sam_size: Side of the square that the input is resized to for SAM, a multiple of 16;
            ``None`` to run SAM at the input's own size.
        num_points: Points of a foreground class.
        regions: Every class is a foreground class with a sigmoid of its own.
        normalize: Whether the network applies ImageNet's mean and standard deviation.
        image_size: Side of the image that SAM's stored position embedding is for.
        embed_dim: Features of the tokens of SAM's image encoder.
        depth: Its blocks.
        num_heads: Its heads.
        window_size: Side of its windows in tokens.
        global_attn_indexes: Its blocks, from 0, that attend over the whole image; the last of
            each quarter if ``None``.
        mlp_ratio: Hidden over outer width of its blocks' MLP.
        prompt_embed_dim: Features of the embedding, of the prompts and in SAM's mask decoder.
    """

    size_divisor = 16
    min_size = 16
    frozen_parts = ("sam",)
    prompts_itself: ClassVar[bool] = True
    shifts_tokens: ClassVar[bool] = True

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        sam_size: int | None = 1024,
        num_points: int = 16,
        regions: bool = False,
        normalize: bool = False,
        image_size: int = 1024,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        window_size: int = 14,
        global_attn_indexes: Sequence[int] | None = None,
        mlp_ratio: float = 4.0,
        prompt_embed_dim: int = 256,
    ):
        _check_sides(sam_size=sam_size, image_size=image_size)
        if global_attn_indexes is None:
            global_attn_indexes = last_of_each_quarter(depth)
        sam: dict[str, Any] = {
            "image_size": image_size,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "window_size": window_size,
            "global_attn_indexes": list(global_attn_indexes),
            "mlp_ratio": mlp_ratio,
            "prompt_embed_dim": prompt_embed_dim,
        }
        own: dict[str, Any] = {
            "sam_size": sam_size,
            "num_points": num_points,
            "regions": regions,
            "normalize": normalize,
        }
        super().__init__(
            input_channels, num_classes, deep_supervision=deep_supervision, options=own | sam
        )
        self.sam_size = sam_size
        self.num_points = num_points
        self.has_background = num_classes > 1 and not regions
        self.foregrounds = num_classes - int(self.has_background)
        self.taps = (depth // 2, 3 * depth // 4, depth)
        self.prompt_channels = self.foregrounds
        self.needs_prompts = not self.prompts_itself
        if self.prompts_itself and sam_size is None:
            self.min_training_size = SMALLEST_TRAINED_APM
        self.to_rgb = ToRGB(input_channels, normalize=normalize)
        self.sam = build_sam(**sam).requires_grad_(False)
        self.apm, self.ips = self._trained_parts(embed_dim, prompt_embed_dim)

    def _trained_parts(self, embed_dim: int, channels: int) -> tuple[APM | None, IPS | None]:
        apm = ips = None
        if self.prompts_itself:
            apm = APM(embed_dim, channels, foregrounds=self.foregrounds, num_points=self.num_points)
        if self.shifts_tokens:
            ips = IPS(channels, NUM_MASK_TOKENS, self.foregrounds)
        return apm, ips

    def forward(
        self, image: Tensor, points: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Segment images.

        Args:
            image: ``(B, input_channels, H, W)``, normalised unless ``normalize`` is set.
            points: Prompts ``(B, P, 2)`` or, for each foreground class its own,
                ``(B, foregrounds, P, 2)``, x and y in pixels of the image; without them the APM
                finds some, and where there is none SAM runs without prompts.
            labels: ``(B, P)`` or ``(B, foregrounds, P)``: 1 for foreground, 0 for background.

        Returns:
            Logits ``(B, num_classes, H, W)``.

        Raises:
            SizeError: Height or width is no multiple of 16, or points and labels do not fit.
        """
        logits = self.low_resolution_logits(image, points, labels)
        return functional.interpolate(logits, image.shape[2:], mode="bilinear")

    def low_resolution_logits(
        self, image: Tensor, points: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """As `forward`, at a quarter of the size at which SAM runs, where the paper's loss is.

        Returns:
            Logits ``(B, num_classes, S / 4, S / 4)``.
        """
        masks, _, _ = self._decode(image, points, labels, wanted=_TRAINED_MASK)
        logits = masks.logits.reshape(image.shape[0], self.foregrounds, *masks.logits.shape[2:])
        if self.has_background:
            return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
        return logits

    def outputs_for_own_loss(
        self, image: Tensor, points: Tensor | None = None, labels: Tensor | None = None
    ) -> list[Tensor]:
        """Return the logits where the paper's loss is, at a quarter of the size of SAM's input."""
        return [self.low_resolution_logits(image, points, labels)]

    def predict_masks(
        self, image: Tensor, points: Tensor | None = None, labels: Tensor | None = None
    ) -> PromptedMasks:
        """All that SAM answers, and the points it was prompted with; arguments as in `forward`."""
        masks, points, labels = self._decode(image, points, labels, wanted=_SEVERAL_MASKS)
        return PromptedMasks(masks.logits, masks.iou, points, labels, masks.sparse)

    def sample_points(self, masks: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        """Draw ``num_points`` prompts from known masks, see `points_from_mask`."""
        return points_from_mask(masks, self.num_points, random)

    def _decode(
        self, image: Tensor, points: Tensor | None, labels: Tensor | None, *, wanted: slice
    ) -> tuple[SamMasks, Tensor | None, Tensor | None]:
        sam_input = self._sam_input(image)
        height, width = sam_input.shape[2:]
        embedding, maps = self.sam.image_encoder(sam_input, self.taps if self.apm else ())
        if points is not None:
            points, labels = self._given_points(image, points, labels, (height, width))
        elif self.apm is not None:
            points, labels = self.apm(maps, height, width)
        shift = None if self.ips is None else self.ips(embedding)
        masks = self.sam.decode(
            embedding.repeat_interleave(self.foregrounds, dim=0),
            points=points,
            labels=labels,
            token_shift=shift,
            wanted=wanted,
        )
        return masks, points, labels

    def _sam_input(self, image: Tensor) -> Tensor:
        image = self.to_rgb(self.prepare(image))
        if self.sam_size is None or image.shape[2:] == (self.sam_size, self.sam_size):
            return image
        return functional.interpolate(image, (self.sam_size, self.sam_size), mode="bilinear")

    def _given_points(
        self, image: Tensor, points: Tensor, labels: Tensor | None, sam_input: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Points and labels class by class, the points in pixels of SAM's input."""
        leading = (image.shape[0], self.foregrounds)
        fits = points.shape[:-2] == leading or (
            self.foregrounds == 1 and points.shape[:-2] == leading[:1]
        )
        if not fits or points.shape[-1] != 2 or labels is None or labels.shape != points.shape[:-1]:
            raise SizeError(
                f"Points are given as {leading} x (points, 2) with labels {leading} x (points)",
                where=f"points {tuple(points.shape)}, labels "
                f"{None if labels is None else tuple(labels.shape)}",
                mend="give each image and foreground class its own points, each with a label",
            )
        points = points.flatten(0, -3).to(at_least_float32(points.dtype))
        given, wanted = image.shape[2:], sam_input
        if tuple(given) != wanted:  # pixels' centres are whole numbers at either size
            scale = points.new_tensor([wanted[1] / given[1], wanted[0] / given[0]])
            points = (points + 0.5) * scale - 0.5
        return points, labels.flatten(0, -2)


def _check_sides(**sides: int | None) -> None:
    for option, side in sides.items():
        if side is not None and (side < PATCH_SIZE or side % PATCH_SIZE):
            raise UserError(
                f"SAM takes images whose sides are multiples of {PATCH_SIZE} pixels",
                where=f"{option}={side}",
                mend=f"use a multiple of {PATCH_SIZE}",
            )


@register_network("promise_apm", PROMISE_APM)
class ProMISeAPM(ProMISe):
    """ProMISe that prompts itself; see the module's text."""

    shifts_tokens = False


@register_network("promise_apm_ips", PROMISE_APM_IPS)
class ProMISeAPMIPS(ProMISe):
    """ProMISe that prompts itself and shifts the mask tokens; see the module's text."""


@register_network("promise_ips_gt", PROMISE_IPS_GT)
class ProMISeIPSGT(ProMISe):
    """ProMISe that shifts the mask tokens and is given its points; see the module's text."""

    prompts_itself = False
