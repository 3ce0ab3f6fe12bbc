"""SAM's official weights (``sam_vit_{b,l,h}_*.pth``), from which ProMISe starts.

A file holds the whole of SAM: image encoder, prompt encoder and mask decoder, 314, 482 or 594
tensors, without pixel means. `sam_options` tells the options of the network for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnmedseg.errors import WeightsError, list_some
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.layers.sam.model import last_of_each_quarter
from nnmedseg.weights._encoder import EncoderReport, EncoderWeights, register_encoder_weights

RENAMES = ((r"^(image_encoder\..*\.mlp)\.lin(?=[12]\.)", r"\1.fc"),)
"""From SAM's names to those of `Sam`, whose image encoder is timm's."""

_FOLDER = "https://dl.fbaipublicfiles.com/segment_anything/"
_FILES = {768: "sam_vit_b_01ec64.pth", 1024: "sam_vit_l_0b3195.pth", 1280: "sam_vit_h_4b8939.pth"}
"""The official files by the width of their image encoder."""


def sam_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read from a SAM's tensors the options that `build_sam` and ProMISe build it with.

    The blocks with tables of the position embedding's size are the global ones. Where windows are
    of that size too, nothing tells them apart, and the last block of each quarter is.

    Args:
        state: Tensors by SAM's names; others are left alone.

    Raises:
        KeyError: A tensor is missing.
    """
    _, side, _, width = state["image_encoder.pos_embed"].shape
    depth = 1 + max(
        (int(name.split(".")[2]) for name in state if name.startswith("image_encoder.blocks.")),
        default=0,
    )
    tables = [state[f"image_encoder.blocks.{block}.attn.rel_pos_h"] for block in range(depth)]
    sides = [(table.shape[0] + 1) // 2 for table in tables]
    windows = [window for window in sides if window != side]
    global_blocks = [block for block in range(depth) if sides[block] == side]
    return {
        "image_size": side * state["image_encoder.patch_embed.proj.weight"].shape[-1],
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // tables[0].shape[1],
        "window_size": windows[0] if windows else side,
        "global_attn_indexes": global_blocks if windows else last_of_each_quarter(depth),
        "mlp_ratio": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        "prompt_embed_dim": state["image_encoder.neck.0.weight"].shape[0],
    }


def load_sam(sam: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load SAM's official tensors into a `Sam`, all of them or none.

    Returns:
        Names in the `Sam` of what was loaded, which is all of it.

    Raises:
        WeightsError: Tensors are missing, left over or of a wrong shape.
    """
    renamed = {_our_name(name): value for name, value in state.items()}
    wanted = sam.state_dict()
    found = {
        "missing": sorted(set(wanted) - set(renamed)),
        "left over": sorted(set(renamed) - set(wanted)),
        "of a wrong shape": [
            f"{name} {tuple(value.shape)} instead of {tuple(wanted[name].shape)}"
            for name, value in renamed.items()
            if name in wanted and value.shape != wanted[name].shape
        ],
    }
    problems = [f"{len(what)} {kind}: {list_some(what, 4)}" for kind, what in found.items() if what]
    if problems:
        raise WeightsError(
            "The file does not hold the SAM that the network was built for",
            where="; ".join(problems),
            mend=_options_for(state),
        )
    sam.load_state_dict(renamed)
    return list(renamed)


def _our_name(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _options_for(state: Mapping[str, Tensor]) -> str:
    try:
        options = sam_options(state)
    except (KeyError, ValueError):
        return "use an official file of SAM: " + ", ".join(_FILES.values())
    return "build the network with " + ", ".join(f"{name}={is_}" for name, is_ in options.items())


def _load(network: SegmentationNetwork, state: Mapping[str, Tensor]) -> EncoderReport:
    loaded = load_sam(network.get_submodule("sam"), state)
    return EncoderReport(loaded=[f"sam.{name}" for name in loaded], ignored=[])


def _file(network: SegmentationNetwork) -> str:
    width = network.options["embed_dim"]
    if width not in _FILES:
        raise WeightsError(
            f"There is no official SAM of width {width}",
            where=f"embed_dim={width}",
            mend=f"build the network with one of {', '.join(map(str, _FILES))}, or name a file",
        )
    return _FILES[width]


def _describe(network: SegmentationNetwork) -> str:
    known = network.options["embed_dim"] in _FILES
    return _FOLDER + _file(network) if known else "a SAM of the network's own options"


def _download(network: SegmentationNetwork) -> Mapping[str, Any]:
    url = _FOLDER + _file(network)
    return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)


for _name in ("promise_apm", "promise_apm_ips", "promise_ips_gt"):
    register_encoder_weights(
        EncoderWeights(network=_name, describe=_describe, load=_load, download=_download)
    )
