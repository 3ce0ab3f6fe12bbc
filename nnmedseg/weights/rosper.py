"""Checkpoints of RoSPER-Net's authors (``checkpoints/<data set>/best.pth``).

They may hold the counters that the operation counter ``thop`` leaves in every module, and the
first release spells ``msfe`` as ``msea``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nnmedseg.weights._importer import Importer, register_importer

_STAGES = range(1, 5)

_RENAMES = (
    (r"msea", "msfe"),
    # From the stages' numbers, 1 = finest, to positions.
    *((rf"^encoder\.block{n}\.", f"encoder.{n - 1}.") for n in _STAGES),
    *((rf"^decoder\.db{n}\.csed\.", f"decoder.{n - 1}.") for n in _STAGES),
    *((rf"^ph\.ph{n}\.pro\.", f"heads.{n - 1}.project.") for n in _STAGES),
    *((rf"^decoder\.db{n}\.con\.pro\.1\.", f"connect.{n - 1}.project.0.") for n in _STAGES),
    *((rf"^decoder\.db{n}\.con\.pro\.2\.", f"connect.{n - 1}.project.1.") for n in _STAGES),
    # Encoder: PMM and the two SPM.
    (r"\.pmb\.bn\.", ".pmm.batch_norm."),
    (r"\.pmb\.pro1\.", ".pmm.feed_forward.0."),
    (r"\.pmb\.dwconv\.", ".pmm.feed_forward.1."),
    (r"\.pmb\.pro2\.", ".pmm.feed_forward.3."),
    (r"\.pmb\.", ".pmm."),
    (r"\.prompt1\.", ".prompt_before."),
    (r"\.prompt2\.", ".prompt_after."),
    (r"\.ca\.conv\.", ".cpb.gate."),
    (r"\.sa\.ave\.", ".spb.average."),
    (r"\.sa\.max\.", ".spb.maximum."),
    (r"\.sa\.conv\.", ".spb.gate."),
    (r"(\.prompt_\w+)\.prompt\.", r"\1.generator."),
    # Decoder: MSFE's eight branches, DCT with DADCB and NSB.
    *((rf"\.msfe\.msfe{n}\.extract\.", f".msfe.same.{n - 1}.") for n in range(1, 5)),
    *((rf"\.msfe\.msfe{n}\.extract\.", f".msfe.enlarged.{n - 5}.") for n in (5, 6)),
    *((rf"\.msfe\.msfe{n}\.extract\.", f".msfe.reduced.{n - 7}.") for n in (7, 8)),
    (r"\.msfe\.extract\.", ".msfe.fuse."),
    (r"\.dct\.attn\.balance\.", ".dct.fuse."),
    (r"\.dct\.attn\.ns\.context\.", ".dct.nsb.context."),
    (r"\.dct\.attn\.ns\.conv\.", ".dct.nsb.gate."),
    (r"\.dct\.attn\.dcb\.", ".dct.dadcb."),
    (r"\.dadcb\.offset\.offset1\.", ".dadcb.horizontal."),
    (r"\.dadcb\.offset\.offset2\.", ".dadcb.vertical."),
    (r"\.dadcb\.offset\.offset3\.", ".dadcb.local."),
    (r"\.dadcb\.offset\.balance\.", ".dadcb.offset."),
    (r"\.dadcb\.deform\.", ".dadcb.deformable."),
    (r"\.dadcb\.balance\.", ".dadcb.fuse."),
)


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = [state[f"encoder.block{n}.conv.0.weight"].shape[0] for n in _STAGES]
    mamba = "encoder.block1.pmb.mamba."
    inner, d_state = state[mamba + "A_log"].shape
    return {
        "input_channels": state["encoder.block1.conv.0.weight"].shape[1],
        "num_classes": state["ph.ph1.pro.weight"].shape[0],
        "widths": widths,
        "d_state": d_state,
        "d_conv": state[mamba + "conv1d.weight"].shape[-1],
        "expand": inner // state[mamba + "out_proj.weight"].shape[0],
    }


IMPORTER = register_importer(Importer(network="rosper", arguments=_arguments, renames=_RENAMES))
