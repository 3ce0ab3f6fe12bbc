"""HeteroMedSeg, with state-space encoder blocks and routing-attention decoder blocks.

Paper: "Bidirectional Mamba and Routing-attention Synergistic Network for Efficient Medical Image
Segmentation"; code Yuyan-Bin/Synergistic-Network at 1a70e62, Apache-2.0.

A U-shaped network: three encoder stages of VSSD blocks, skip connections through SCSA, and three
decoder stages of BRA blocks. Modules have the paper's names. There is one output.

What the authors' code does and the paper does not say, done here too:

- The state-space mixers scan the tokens from left to right; the paper's non-causal form is the
  option ``mixer="noncausal"``. Both have the same weights.
- The decoder blocks replace the tokens by their norm (see `BRABlock`), attention is scaled by the
  width of a token instead of a head, and the gate of the mixer is linear.
- An image with one channel is repeated to three, the stem's channels.

What differs from the authors' code:

- The fourth encoder stage, which they build and never run, is built only with ``bottleneck=True``;
  its place in the schedule of stochastic depth is kept.
- Height and width need not be equal. The regions of the attention have a constant size in pixels,
  32 x 32, which is what the authors' numbers of regions give at their image sizes (7 x 7 at 224,
  8 x 8 at 256); with ``n_win`` their number is fixed instead.
- No more regions are chosen than there are, and the pooling window of SCSA is no larger than its
  map, so that small images work.
- The classes are predicted before the last enlarged tokens are laid out: the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks._registry import register_network
from nnmedseg.networks.cards.heteromedseg import HETEROMEDSEG
from nnmedseg.networks.layers.layout import channels_last
from nnmedseg.networks.layers.patch_expand import PatchExpand
from nnmedseg.networks.layers.routing_attention import BRABlock
from nnmedseg.networks.layers.scsa import SCSA
from nnmedseg.networks.layers.token_grid import rising_rates, to_maps, to_tokens
from nnmedseg.networks.layers.vssd import VSSDBlock

_MIXERS = ("causal", "noncausal")


def _halve(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
    return [conv, nn.BatchNorm2d(out_channels)]


class Stem(nn.Sequential):
    """From the image to the finest tokens, a quarter of its height and width."""

    def __init__(self, in_channels: int, channels: int):
        half = channels // 2
        super().__init__(*_halve(in_channels, half), nn.GELU(), *_halve(half, channels))


class Skip(nn.Module):
    """Skip connection: decoder and encoder tokens side by side, through SCSA, to one width.

    Args:
        channels: Features of a token.
        heads: Heads of `SCSA`.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.scsa = SCSA(2 * channels, heads)
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        """Two grids of tokens ``(B, H, W, C)`` to one."""
        return self.project(self.scsa(torch.cat([decoded, encoded], dim=-1)))


class DecoderStage(nn.Module):
    """Enlarge the tokens, join the skip connection, and apply the blocks.

    Args:
        below: Features of a token of the stage below.
        channels: Features of a token of this stage.
        scsa_heads: Heads of the skip connection's `SCSA`.
        blocks: The stage's BRA blocks.
    """

    def __init__(self, below: int, channels: int, *, scsa_heads: int, blocks: Sequence[BRABlock]):
        super().__init__()
        self.expand = PatchExpand(below, channels, 2)
        self.skip = Skip(channels, scsa_heads)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, encoded: Tensor, regions: tuple[int, int]) -> Tensor:
        """``(B, H / 2, W / 2, below)`` and ``(B, H, W, C)`` to ``(B, H, W, C)``."""
        x = self.skip(self.expand(x), encoded)
        for block in self.blocks:
            x = block(x, regions)
        return x


class Head(nn.Module):
    """From the finest tokens to logits of the image's size."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = PatchExpand(channels, channels, 4)
        self.project = nn.Conv2d(channels, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, num_classes, 4 * H, 4 * W)``."""
        blocks = self.expand.blocks(self.norm(x))
        # Token by token, a 1x1 convolution is a linear layer, and faster as one.
        logits = functional.linear(blocks, self.project.weight.flatten(1))
        return to_maps(self.expand.arrange(logits)).contiguous()


@register_network("heteromedseg", HETEROMEDSEG)
class HeteroMedSeg(SegmentationNetwork):
    """HeteroMedSeg; see the module's text and `SegmentationNetwork`.

    Args:
        input_channels: Channels of the image. With 1 or 3 the stem has three channels, and takes
            images of one channel too.
        num_classes: Channels of the logits.
        deep_supervision: Without effect, as there is one output.
        widths: Features of a token at strides 4, 8, 16, 32; each is twice the one before.
        depths: Encoder blocks at strides 4, 8, 16, and of the unused stage at stride 32, which
            counts for the rates of stochastic depth.
        decoder_depths: Decoder blocks at strides 4, 8, 16.
        head_dim: Features of a head; divides the widths.
        mlp_ratio: Inner features of all MLPs over their width.
        d_state: States of each inner feature of the mixers.
        expand: Inner features of the mixers over their width.
        mixer: ``causal``, as in the authors' code, or ``noncausal``, as in the paper.
        topks: Regions that a region attends to at strides 4, 8, 16. A fourth entry, which the
            authors' configuration has for the unused stage, is left out.
        n_win: Regions along each side; ``None`` for regions of 32 x 32 pixels.
        scsa_heads: Heads of the channel attention in the skip connections at strides 4, 8, 16;
            they divide twice the width.
        drop_path_rate: Largest rate of stochastic depth, in encoder and decoder.
        bottleneck: Whether to build the unused fourth encoder stage, which is never run and gets
            no gradient.

    Raises:
        UserError: The widths do not go with each other or with the heads.
    """

    size_divisor = 32
    min_size = 32

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = True,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 2, 2),
        decoder_depths: Sequence[int] = (2, 2, 8),
        head_dim: int = 32,
        mlp_ratio: int = 3,
        d_state: int = 64,
        expand: int = 2,
        mixer: Literal["causal", "noncausal"] = "causal",
        topks: Sequence[int] = (2, 4, 8),
        n_win: int | None = None,
        scsa_heads: Sequence[int] = (8, 12, 16),
        drop_path_rate: float = 0.2,
        bottleneck: bool = False,
    ):
        options = {
            "widths": list(widths),
            "depths": list(depths),
            "decoder_depths": list(decoder_depths),
            "head_dim": head_dim,
            "mlp_ratio": mlp_ratio,
            "d_state": d_state,
            "expand": expand,
            "mixer": mixer,
            "topks": list(topks)[:3],
            "n_win": n_win,
            "scsa_heads": list(scsa_heads),
            "drop_path_rate": drop_path_rate,
            "bottleneck": bottleneck,
        }
        super().__init__(
            input_channels, num_classes, deep_supervision=deep_supervision, options=options
        )
        _check_options(options)
        self.n_win = n_win
        self.stem_channels = 3 if input_channels == 1 else input_channels
        self.stem = Stem(self.stem_channels, widths[0])
        self.downsample = nn.ModuleList(
            nn.Sequential(*_halve(*pair)) for pair in itertools.pairwise(widths)
        )
        stages = _encoder_stages(options)
        self.encoder = nn.ModuleList(stages[:3])
        self.bottleneck = stages[3] if bottleneck else None
        self.decoder = nn.ModuleList(_decoder_stages(options))
        self.head = Head(widths[0], num_classes)
        self.apply(_start)

    def prepare(self, image: Tensor) -> Tensor:
        """See `SegmentationNetwork.prepare`; one channel is repeated to the three of the stem."""
        if image.ndim == 4 and image.shape[1] == 1 and self.stem_channels == 3:
            self.check_input(image.expand(-1, self.input_channels, -1, -1))
            return channels_last(image.expand(-1, self.stem_channels, -1, -1))
        return super().prepare(image)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return those that BiFormer has too: convolutions and layer norms, not the mixers."""
        stages = [*self.encoder, *([] if self.bottleneck is None else [self.bottleneck])]
        norms = [norm for stage in stages for block in stage for norm in (block.norm1, block.norm2)]
        shared = nn.ModuleList([self.stem, self.downsample, *norms])
        return list(shared.parameters())

    def forward(self, image: Tensor) -> Tensor:
        """Segment images ``(B, input_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes, H, W)``.

        Raises:
            SizeError: Height or width is not a multiple of 32.
        """
        image = self.prepare(image)
        regions = (self.n_win, self.n_win) if self.n_win else _regions(image)
        x = to_tokens(self.stem(image))
        encoded = []
        for stage, downsample in zip(self.encoder, self.downsample, strict=True):
            encoded.append(stage(x))
            x = to_tokens(downsample(to_maps(encoded[-1])))
        for stage, skip in zip(reversed(self.decoder), reversed(encoded), strict=True):
            x = stage(x, skip, regions)
        return self.head(x)


def _regions(image: Tensor) -> tuple[int, int]:
    """The numbers of regions of 32 x 32 pixels along height and width."""
    height, width = image.shape[2:]
    return height // 32, width // 32


def _encoder_stages(options: dict[str, Any]) -> list[nn.Sequential]:
    """The encoder stages, finest first; the fourth only where it is asked for."""
    depths, widths = options["depths"], options["widths"]
    rates = iter(rising_rates(options["drop_path_rate"], sum(depths)))
    built = 4 if options["bottleneck"] else 3
    return [
        nn.Sequential(
            *(
                VSSDBlock(
                    width,
                    width // options["head_dim"],
                    mlp_ratio=options["mlp_ratio"],
                    drop_path_rate=next(rates),
                    form=options["mixer"],
                    d_state=options["d_state"],
                    expand=options["expand"],
                )
                for _ in range(depth)
            )
        )
        for width, depth in zip(widths[:built], depths[:built], strict=True)
    ]


def _decoder_stages(options: dict[str, Any]) -> list[DecoderStage]:
    """The decoder stages, finest first, each with rates of stochastic depth from zero."""
    return [
        DecoderStage(
            below,
            channels,
            scsa_heads=scsa_heads,
            blocks=[
                BRABlock(
                    channels,
                    channels // options["head_dim"],
                    topk,
                    mlp_ratio=options["mlp_ratio"],
                    drop_path_rate=rate,
                )
                for rate in rising_rates(options["drop_path_rate"], depth)
            ],
        )
        for (channels, below), scsa_heads, topk, depth in zip(
            itertools.pairwise(options["widths"]),
            options["scsa_heads"],
            options["topks"],
            options["decoder_depths"],
            strict=True,
        )
    ]


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_options(options: dict[str, Any]) -> None:
    lengths = {"widths": 4, "depths": 4, "decoder_depths": 3, "topks": 3, "scsa_heads": 3}
    for name, length in lengths.items():
        if len(options[name]) != length:
            raise UserError(f"HeteroMedSeg has {length} {name}", where=f"{name} = {options[name]}")
    widths, head_dim = options["widths"], options["head_dim"]
    if any(below != 2 * width for width, below in itertools.pairwise(widths)) or widths[0] % 2:
        raise UserError(
            "The widths of HeteroMedSeg double from stage to stage, and the first is even",
            where=f"widths = {widths}",
        )
    if any(width % head_dim for width in widths):
        raise UserError(
            f"Heads of {head_dim} features do not divide the widths of HeteroMedSeg",
            where=f"widths = {widths}",
            mend="choose head_dim so that it divides the first width",
        )
    if any(2 * w % h for w, h in zip(widths[:3], options["scsa_heads"], strict=True)):
        raise UserError(
            "The heads of the skip connections do not divide twice the widths of HeteroMedSeg",
            where=f"widths = {widths}, scsa_heads = {options['scsa_heads']}",
            mend="choose scsa_heads that do",
        )
    if options["mixer"] not in _MIXERS:
        raise UserError(
            f"HeteroMedSeg has no mixer {options['mixer']!r}",
            mend=f"use one of: {', '.join(_MIXERS)}",
        )
