"""Checkpoints of ProMISe's authors: the whole model, the frozen SAM included.

Released files use older names at least in part, so each part is recognised by what it holds,
under any prefix, and gets the prefix that the authors' code uses now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnmedseg.errors import WeightsError
from nnmedseg.weights._importer import PROFILER_COUNTERS, Importer, register_importer
from nnmedseg.weights.sam import RENAMES as SAM_RENAMES
from nnmedseg.weights.sam import sam_options

_State = Mapping[str, Tensor]

_RENAMES = (
    *SAM_RENAMES,
    (r"^(image_encoder|prompt_encoder|mask_decoder)\.", r"sam.\1."),
    (r"^ips_ffn\.", "ips."),
    *((rf"^apm_feature_map\.fusion_conv{n}\.", f"apm.fusion.{2 * n - 2}.") for n in (1, 2, 3)),
    (r"^apm_resnet\.", "apm.resnet."),
)

_SAM_PREFIXES = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

_UNUSED_LAYER = (r"^apm_resnet\.fc2\.", "second linear layer, computed and never used")


@dataclass(frozen=True)
class _Part:
    """A part of the authors' model, and how it is known in a checkpoint.

    Args:
        prefix: The prefix that it has now.
        sign: The name after the prefix of a tensor that only this part has.
        beside: Names after the prefix of which one must be there too.
        names: A regular expression of its names after the prefix.
        fits: Whether a tensor with the sign's name, given the state and the prefix, is it.
    """

    prefix: str
    sign: str
    beside: tuple[str, ...]
    names: str
    fits: Callable[[_State, str], bool] = lambda state, prefix: True


def _is_shift(state: _State, prefix: str) -> bool:
    """Whether ``lin1`` and ``lin2`` map C to 4 C and that to shifts of four tokens of C."""
    hidden, channels = state[f"{prefix}lin1.weight"].shape
    rows, columns = state[f"{prefix}lin2.weight"].shape
    return hidden == columns == 4 * channels and rows % (4 * channels) == 0


_PARTS = (
    _Part(
        "image_encoder.",
        "pos_embed",
        ("patch_embed.proj.weight",),
        r"(pos_embed$|patch_embed\.|blocks\.|neck\.)",
    ),
    _Part(
        "prompt_encoder.",
        "pe_layer.positional_encoding_gaussian_matrix",
        ("no_mask_embed.weight",),
        r"(pe_layer|point_embeddings|not_a_point_embed|no_mask_embed|mask_downscaling)\.",
    ),
    _Part(
        "mask_decoder.",
        "mask_tokens.weight",
        ("iou_token.weight",),
        r"(transformer|iou_token|mask_tokens|output_\w+|iou_prediction_head)\.",
    ),
    _Part(
        "apm_feature_map.", "fusion_conv1.weight", ("fusion_conv2.weight",), r"fusion_conv[123]\."
    ),
    _Part(
        "apm_resnet.",
        "layer4.2.shortcut.0.weight",
        ("fc2.weight", "fc.weight"),
        r"(conv1|bn1|layer[1-4]|fc2?)\.",
    ),
    _Part("ips_ffn.", "lin1.weight", ("lin2.weight",), r"lin[12]\.", _is_shift),
)


def _named_as_now(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the authors' present names, and batch counters where there are none."""
    prefixes = [(part, prefix) for part in _PARTS for prefix in _prefixes(part, state)]
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        now = _name_now(name, prefixes)
        if now in named:
            raise WeightsError(
                f"The checkpoint holds two tensors that could be {now}",
                where=name,
                mend="give the state dict of one model only",
            )
        named[now] = value
    for name in list(named):
        if name.endswith(".running_mean"):
            counter = name.replace("running_mean", "num_batches_tracked")
            named.setdefault(counter, torch.tensor(0))
    return named


def _prefixes(part: _Part, state: _State) -> Iterator[str]:
    """The prefixes under which a part stands."""
    for name in state:
        prefix = name.removesuffix(part.sign)
        if prefix != name and (not prefix or prefix.endswith((".", "_"))):
            beside = any(prefix + other in state for other in part.beside)
            if beside and part.fits(state, prefix):
                yield prefix


def _name_now(name: str, prefixes: list[tuple[_Part, str]]) -> str:
    """The present name of a tensor; the longest prefix that it fits counts."""
    for part, prefix in sorted(prefixes, key=lambda found: -len(found[1])):
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and re.match(part.names, rest):
            return part.prefix + rest
    return name


def _arguments(state: _State, *, has_apm: bool, has_ips: bool) -> dict[str, Any]:
    if state and all(name.startswith(_SAM_PREFIXES) for name in state):
        raise WeightsError(
            "This checkpoint is of SAM itself, from which ProMISe's training starts",
            where=f"state dict with {len(state)} entries, all of SAM's three parts",
            mend="give a checkpoint that was trained as ProMISe, or start a training from this "
            "file: nnmedseg.weights.load_encoder_weights",
        )
    sam = sam_options(state)
    foregrounds = 1
    if has_ips:
        rows, _ = state["ips_ffn.lin2.weight"].shape
        foregrounds = rows // (4 * sam["prompt_embed_dim"])
    arguments = {
        "input_channels": 3,
        "num_classes": 1 if foregrounds == 1 else foregrounds + 1,
        "sam_size": sam["image_size"],
        **sam,
    }
    if has_apm:
        arguments["num_points"] = state["apm_resnet.fc.weight"].shape[0] // (2 * foregrounds)
    return arguments


def _register(network: str, *, has_apm: bool, has_ips: bool) -> Importer:
    return register_importer(
        Importer(
            network=network,
            arguments=partial(_arguments, has_apm=has_apm, has_ips=has_ips),
            renames=_RENAMES,
            ignorable=(PROFILER_COUNTERS, _UNUSED_LAYER),
            transform=_named_as_now,
        )
    )


APM_IMPORTER = _register("promise_apm", has_apm=True, has_ips=False)
APM_IPS_IMPORTER = _register("promise_apm_ips", has_apm=True, has_ips=True)
IPS_GT_IMPORTER = _register("promise_ips_gt", has_apm=False, has_ips=True)
