"""Checkpoints of ConDSeg's authors, and the ImageNet weights that its training starts from.

The authors' networks are trained on images in the order blue, green, red; ``from_reference(...,
reverse_channels=True)`` gives one for red, green, blue.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nnmedseg.errors import WeightsError, list_some
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.layers.timm_encoder import TIMM_ENCODERS, TimmEncoderFacts
from nnmedseg.ops.window_mix import WINDOW
from nnmedseg.weights._encoder import EncoderReport, EncoderWeights, register_encoder_weights
from nnmedseg.weights._importer import Importer, register_importer, unwrapped

_LEVELS = range(1, 5)
_KINDS = (("fg", "foreground"), ("bg", "background"), ("uc", "uncertainty"))

_ENCODER = "encoder.model."
_STAGE1_HEAD = "reduce."

_PVT_RENAMES = tuple(
    (rf"(?<=^encoder\.model\.){pattern}", replacement)
    for pattern, replacement in (
        (r"patch_embed1\.", "patch_embed."),
        *((rf"patch_embed{n}\.", f"stages_{n - 1}.downsample.") for n in _LEVELS),
        *((rf"block{n}\.", f"stages_{n - 1}.blocks.") for n in _LEVELS),
        *((rf"norm{n}\.", f"stages_{n - 1}.norm.") for n in _LEVELS),
        (r"stages\.", "stages_"),
        (r"(.*)\.mlp\.dwconv\.dwconv\.", r"\1.mlp.dwconv."),
    )
)
"""From the names of PVT's authors, or of timm's whole network, to those of timm's encoder."""

_RENAMES = (
    (r"^layer0\.0\.", f"{_ENCODER}conv1."),
    (r"^layer0\.1\.", f"{_ENCODER}bn1."),
    (r"^layer1\.1\.", f"{_ENCODER}layer1."),
    (r"^(layer[23])\.", rf"{_ENCODER}\1."),
    (r"^backbone\.", _ENCODER),
    *_PVT_RENAMES,
    # Everywhere: convolution and normalisation of a CBR, the two convolutions of channel attention.
    (r"\.conv\.([01])\.", r".\1."),
    (r"^(dconv.*|decoder.*)\.fc1\.", r"\1.squeeze."),
    (r"^(dconv.*|decoder.*)\.fc2\.", r"\1.excite."),
    *((rf"^dconv{n}\.", f"dil_convs.{n - 1}.") for n in _LEVELS),
    *((rf"^(dil_convs\.\d)\.c{n}\.", rf"\1.branches.{n - 1}.") for n in _LEVELS),
    (r"^(dil_convs\.\d)\.c5\.", r"\1.fuse."),
    (r"^(dil_convs\.\d)\.c6\.", r"\1.shortcut."),
    (r"^(dil_convs\.\d)\.sa\.conv1\.", r"\1.attention.conv."),
    *((rf"^decouple_layer\.cbr_{short}\.", f"sid.{kind}.") for short, kind in _KINDS),
    *(
        (rf"^preprocess_{short}{n}\.", f"align_{kind}.{n - 1}.")
        for short, kind in _KINDS
        for n in _LEVELS
    ),
    (r"^(align_\w+\.\d)\.c1\.", r"\1.cbrs.0."),
    *((rf"^(align_\w+\.\d)\.preprocess\.conv_{n - 1}\.", rf"\1.cbrs.{n}.") for n in _LEVELS),
    *((rf"^aux_head\.branch_{short}\.", f"auxiliary_heads.{kind}.") for short, kind in _KINDS),
    # Convolutions at even positions, with an enlargement between them and the last one's own map.
    *((rf"^(auxiliary_heads\.\w+)\.{2 * n}\.(?=[01]\.)", rf"\1.cbrs.{n}.") for n in range(6)),
    (r"^(auxiliary_heads\.\w+)\.\d+\.(?=weight|bias)", r"\1.project."),
    *((rf"^cdfa{n}\.", f"cdfas.{n - 1}.") for n in _LEVELS),
    (r"^(cdfas\.\d)\.v\.", r"\1.value."),
    (r"^(cdfas\.\d)\.attn_fg\.", r"\1.foreground_attention."),
    (r"^(cdfas\.\d)\.attn_bg\.", r"\1.background_attention."),
    (r"^(cdfas\.\d)\.proj\.", r"\1.project."),
    (r"^decoder_(small|middle|large)\.", r"\1."),
    (r"^(small|middle|large)\.c1\.", r"\1.fuse."),
    *((rf"^(small|middle|large)\.c{n + 1}\.", rf"\1.conv{n}.") for n in range(1, 4)),
    (r"^(small|middle|large)\.ca\.", r"\1.attention.0."),
    (r"^(small|middle|large)\.sa\.conv1\.", r"\1.attention.1.conv."),
    *((rf"^output_block\.c{n}\.", f"output_block.refine.{n - 1}.") for n in (1, 2)),
    (r"^output_block\.c3\.", "output_block.project."),
    # The first stage's head.
    *((rf"^head\.conv{n}\.", f"reduce.{n - 1}.") for n in _LEVELS),
    (r"^head\.conv_fuse\.", "project."),
)

_FIRST_CONVOLUTIONS = {
    "resnet50": "layer0.0.weight",
    "pvt_v2_b2": "backbone.patch_embed1.proj.weight",
}
"""The authors' entry that tells the encoder."""

_NOT_IN_THE_ENCODER = (
    (r"^layer4\.", "the last stage of ResNet-50"),
    (r"^(fc|head)\.", "the classifier"),
)


def _encoder_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    found = [name for name, entry in _FIRST_CONVOLUTIONS.items() if entry in state]
    encoder = found[0] if found else "resnet50"
    return {
        "encoder": encoder,
        "input_channels": state[_FIRST_CONVOLUTIONS[encoder]].shape[1],
    }


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "head.conv_fuse.weight" in state:
        raise WeightsError(
            "This checkpoint is of ConDSeg's first stage",
            where="entry head.conv_fuse.weight",
            mend="import it as 'condseg_stage1'; encoder_from_stage1 hands its encoder on",
        )
    return _encoder_arguments(state) | {
        "num_classes": state["output_block.c3.weight"].shape[0],
        "width": state["output_block.fuse.conv.0.weight"].shape[0],
        "heads": state["cdfa4.attn_fg.weight"].shape[0] // WINDOW**4,
    }


def _stage1_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "output_block.c3.weight" in state:
        raise WeightsError(
            "This checkpoint is of ConDSeg's second stage",
            where="entry output_block.c3.weight",
            mend="import it as 'condseg'",
        )
    return _encoder_arguments(state) | {
        "num_classes": state["head.conv_fuse.weight"].shape[0],
        "width": state["head.conv1.conv.0.weight"].shape[0],
    }


def _oriented(state: dict[str, Tensor], *, reverse_channels: bool = False) -> dict[str, Tensor]:
    """The authors' state dict for images whose channels come in the reverse order."""
    for entry in _FIRST_CONVOLUTIONS.values():
        if reverse_channels and entry in state:
            state[entry] = state[entry].flip(1)
    return state


IMPORTER = register_importer(
    Importer(
        network="condseg",
        arguments=_arguments,
        renames=_RENAMES,
        transform=_oriented,
        import_options=("reverse_channels",),
    )
)

STAGE1_IMPORTER = register_importer(
    dataclasses.replace(IMPORTER, network="condseg_stage1", arguments=_stage1_arguments)
)


def is_stage1(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint, with the authors' names or ours, holds the first stage's head."""
    names = (STAGE1_IMPORTER.our_name(name) for name in unwrapped(state))
    return any(name.startswith(_STAGE1_HEAD) for name in names)


def encoder_from_stage1(
    stage1: SegmentationNetwork | Mapping[str, Any],
    network: SegmentationNetwork,
    *,
    reverse_channels: bool = False,
) -> EncoderReport:
    """Copy the encoder that the first stage trained, with its batch statistics.

    Args:
        stage1: A ``condseg_stage1`` network, or its state dict with the authors' names or ours.
        network: The ``condseg`` network of the second stage, with the same encoder and input
            channels; changed in place.
        reverse_channels: ``stage1`` is for images in the reverse order of channels, as the
            authors' for blue, green, red.

    Returns:
        The entries that were copied, which are all of the encoder, and those that were not.

    Raises:
        WeightsError: An entry is missing or of a wrong shape; the network is left as it was.
    """
    given = stage1.state_dict() if isinstance(stage1, SegmentationNetwork) else stage1
    state = unwrapped(given)
    names = {name: STAGE1_IMPORTER.our_name(name) for name in state}
    encoder = {ours: state[name] for name, ours in names.items() if ours.startswith(_ENCODER)}
    ignored = [name for name, ours in names.items() if ours not in encoder]
    first = _ENCODER + _facts(network).first_convolution
    if reverse_channels and first in encoder:
        encoder[first] = encoder[first].flip(1)
    return _load_encoder(network, encoder, ignored)


def _load_pretrained(network: SegmentationNetwork, state: Mapping[str, Tensor]) -> EncoderReport:
    """Load ImageNet weights named as torchvision, timm or PVT's authors name them.

    The counters of batch normalisation are missing in torchvision's oldest files, and are kept.
    """
    encoder, ignored = {}, []
    for name, value in state.items():
        if any(re.search(pattern, name) for pattern, _ in _NOT_IN_THE_ENCODER):
            ignored.append(name)
            continue
        ours = _ENCODER + name
        for pattern, replacement in _PVT_RENAMES:
            ours = re.sub(pattern, replacement, ours)
        encoder[ours] = value
    for name, value in network.state_dict().items():
        if name.startswith(_ENCODER) and name.endswith("num_batches_tracked"):
            encoder.setdefault(name, value)
    first = _ENCODER + _facts(network).first_convolution
    if first in encoder:
        encoder[first] = _for_channels(encoder[first], network.input_channels)
    return _load_encoder(network, encoder, ignored)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution ``(C, 3, h, w)`` for other channels: summed, or repeated in turn."""
    if weight.shape[1] != 3 or channels == 3:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turn = torch.arange(channels, device=weight.device) % 3
    return weight[:, turn] * (3 / channels)


def _load_encoder(
    network: SegmentationNetwork, encoder: Mapping[str, Tensor], ignored: list[str]
) -> EncoderReport:
    wanted = {k: v for k, v in network.state_dict().items() if k.startswith(_ENCODER)}
    found = {
        "missing": sorted(set(wanted) - set(encoder)),
        "left over": sorted(set(encoder) - set(wanted)),
        "of a wrong shape": [
            f"{name} {tuple(encoder[name].shape)} instead of {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in encoder and encoder[name].shape != value.shape
        ],
    }
    problems = [f"{len(what)} {kind}: {list_some(what)}" for kind, what in found.items() if what]
    if problems:
        raise WeightsError(
            f"The weights do not fit the encoder {network.options['encoder']!r}",
            where="; ".join(problems),
            mend="check that they belong to this encoder and these input channels",
        )
    network.load_state_dict({**network.state_dict(), **encoder})
    return EncoderReport(loaded=sorted(encoder), ignored=ignored)


_FILES = {
    "resnet50": "torchvision's IMAGENET1K_V1 (resnet50-0676ba61.pth)",
    "pvt_v2_b2": "PVT's pvt_v2_b2.pth",
}


def _facts(network: SegmentationNetwork) -> TimmEncoderFacts:
    return TIMM_ENCODERS[network.options["encoder"]]


def _describe(network: SegmentationNetwork) -> str:
    return f"timm's {_facts(network).pretrained}, which is {_FILES[network.options['encoder']]}"


def _download(network: SegmentationNetwork) -> Mapping[str, Any]:
    import timm  # noqa: PLC0415 - only networks with such an encoder need it

    return timm.create_model(_facts(network).pretrained, pretrained=True).state_dict()


for _name in ("condseg", "condseg_stage1"):
    register_encoder_weights(EncoderWeights(_name, _describe, _load_pretrained, _download))
