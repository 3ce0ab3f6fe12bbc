"""Checkpoints of HeteroMedSeg's authors, and the ImageNet weights that its training starts from.

The authors' checkpoints (``synapse_84.00.pth``) are bare state dicts with the prefix ``bra_unet.``.
They hold a fourth encoder stage that no forward pass runs, and the counters of a profiler.

The start is ``biformer_base_best.pth``, BiFormer-Base trained on ImageNet. Of its encoder only what
has the same name here is used: the stem, the convolutions between the stages, and the layer norms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from torch import Tensor

from nnmedseg.errors import WeightsError, list_some
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.heteromedseg import HeteroMedSeg
from nnmedseg.weights._encoder import EncoderReport, EncoderWeights, register_encoder_weights
from nnmedseg.weights._importer import PROFILER_COUNTERS, Importer, register_importer

_PREFIX = "bra_unet."

_UNUSED_STAGE = (r"^stages\.3\.", "the fourth encoder stage, which is never run")

# From the authors' order, coarsest first, to ours.
_DECODER = ((1, 2), (2, 1), (3, 0))

_RENAMES = (
    (r"^downsample_layers\.0\.", "stem."),
    *((rf"^downsample_layers\.{n}\.", f"downsample.{n - 1}.") for n in (1, 2, 3)),
    (r"^stages\.", "encoder."),
    (r"^(encoder\.\d|bottleneck)\.(\d+)\.cpe", r"\1.\2.position"),
    (r"^(encoder\.\d|bottleneck)\.(\d+)\.attn\.", r"\1.\2.mixer."),
    (r"\.mixer\.conv2d\.", ".mixer.conv."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.(fc2|3)\.", ".mlp.2."),
    # Decoder: an expand comes at the end of the authors' stages, at the start of ours.
    (r"^layers_up\.0\.", "decoder.2.expand."),
    (r"^layers_up\.1\.upsample\.", "decoder.1.expand."),
    (r"^layers_up\.2\.upsample\.", "decoder.0.expand."),
    *((rf"^layers_up\.{theirs}\.", f"decoder.{ours}.") for theirs, ours in _DECODER),
    (r"\.pos_embed\.", ".position."),
    (r"^(decoder\.\d\.blocks\.\d+)\.attn\.", r"\1.attention."),
    (r"\.attention\.lepe\.", ".attention.local_enhancement."),
    (r"\.attention\.qkv\.qkv\.", ".attention.qkv."),
    (r"\.attention\.wo\.", ".attention.out_proj."),
    # Skip connections.
    *(
        (rf"^concat_back_dim\.{theirs}\.", f"decoder.{ours}.skip.project.")
        for theirs, ours in _DECODER
    ),
    *((rf"^sccsa{n}\.", f"decoder.{n - 1}.skip.scsa.") for n in (1, 2, 3)),
    (r"\.local_dwc\.", ".convs.0."),
    *((rf"\.global_dwc_{size}\.", f".convs.{n}.") for n, size in enumerate("sml", start=1)),
    (r"\.norm_h\.", ".norm_rows."),
    (r"\.norm_w\.", ".norm_columns."),
    *((rf"\.scsa\.{name[0]}\.weight$", f".scsa.{name}") for name in ("query", "key", "value")),
    # Head.
    (r"^norm_up\.", "head.norm."),
    (r"^up4\.", "head.expand."),
    (r"^output\.", "head.project."),
)


def _without_prefix(state: dict[str, Tensor], *, bottleneck: bool = False) -> dict[str, Tensor]:
    """Drop the wrapper's prefix; with ``bottleneck`` keep the stage that is otherwise ignored."""
    bare = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    return {_kept(name): value for name, value in bare.items()} if bottleneck else bare


def _kept(name: str) -> str:
    """Another name for the entries of the unused stage, under which they are not ignored."""
    return re.sub(_UNUSED_STAGE[0], "bottleneck.", name)


def _depth(state: Mapping[str, Tensor], blocks: str) -> int:
    """How many blocks there are whose names start with ``blocks`` and a number."""
    matches = (re.match(rf"{re.escape(blocks)}\.(\d+)\.", name) for name in state)
    return len({match[1] for match in matches if match})


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = [state["downsample_layers.0.3.weight"].shape[0]]
    widths += [state[f"downsample_layers.{n}.0.weight"].shape[0] for n in (1, 2, 3)]
    block = "stages.0.0."
    inner = state[block + "attn.norm.weight"].shape[0]
    bottleneck = _depth(state, "bottleneck")
    return {
        "input_channels": state["downsample_layers.0.0.weight"].shape[1],
        "num_classes": state["output.weight"].shape[0],
        "widths": widths,
        # Without the unused stage its depth is the paper's.
        "depths": [*(_depth(state, f"stages.{n}") for n in range(3)), bottleneck or 2],
        "decoder_depths": [_depth(state, f"layers_up.{n}.blocks") for n in (3, 2, 1)],
        "head_dim": widths[0] // state[block + "attn.A_log"].shape[0],
        "mlp_ratio": state[block + "mlp.fc1.weight"].shape[0] // widths[0],
        "d_state": (state[block + "attn.conv2d.weight"].shape[0] - inner) // 2,
        "expand": inner // widths[0],
        "bottleneck": bottleneck > 0,
    }


IMPORTER = register_importer(
    Importer(
        network="heteromedseg",
        arguments=_arguments,
        renames=_RENAMES,
        ignorable=(PROFILER_COUNTERS, _UNUSED_STAGE),
        transform=_without_prefix,
        import_options=("bottleneck",),
    )
)

_SHARED_WITH_BIFORMER = re.compile(r"^downsample_layers\.|^stages\.\d+\.\d+\.norm[12]\.")
_FIRST_CONVOLUTION = "stem.0.weight"


def _load_biformer(network: SegmentationNetwork, state: Mapping[str, Tensor]) -> EncoderReport:
    """Load what BiFormer-Base shares with a `HeteroMedSeg`.

    All convolutions down to stride 32 must be there and fit; of the layer norms, those that both
    have are loaded. The first convolution is left as it is where it does not have the three
    channels of ImageNet. Of the 67 entries that the authors load, 8 belong to the stage that is
    never run: 59 are loaded where the network was built without it.
    """
    network = cast(HeteroMedSeg, network)
    wanted = network.state_dict()
    shared = [name for name in state if _SHARED_WITH_BIFORMER.match(name)]
    if network.bottleneck is not None:
        our_names = {name: IMPORTER.our_name(_kept(name)) for name in shared}
    else:
        our_names = {name: IMPORTER.our_name(name) for name in shared}
    if network.stem_channels != 3:
        wanted.pop(_FIRST_CONVOLUTION)
    found = {ours: state[name] for name, ours in our_names.items() if ours in wanted}
    needed = [name for name in wanted if name.startswith(("stem.", "downsample."))]
    missing = [name for name in needed if name not in found]
    wrong = [name for name, value in found.items() if value.shape != wanted[name].shape]
    if missing or wrong:
        raise WeightsError(
            "The file does not hold the encoder that this network starts from",
            where=f"missing: {list_some(missing, 4) or 'nothing'}; "
            f"of another shape: {list_some(wrong, 4) or 'nothing'}",
            mend=f"use {_describe(network)}, and the widths of the paper",
        )
    network.load_state_dict(found, strict=False)
    ignored = [name for name in state if our_names.get(name) not in found]
    return EncoderReport(loaded=sorted(found), ignored=sorted(ignored))


def _describe(_: SegmentationNetwork) -> str:
    return "biformer_base_best.pth, BiFormer-Base trained on ImageNet-1k (rayleizhu/BiFormer)"


def _download(network: SegmentationNetwork) -> NoReturn:
    raise OSError("BiFormer's authors publish them behind links that no program can follow")


register_encoder_weights(
    EncoderWeights(
        network="heteromedseg", describe=_describe, load=_load_biformer, download=_download
    )
)
