"""Checkpoints of ASC-Seg's authors (``checkpoints/<data set>/best.pth``), of both their releases.

They may hold the counters that the operation counter ``thop`` leaves in every module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nnmedseg.weights._importer import Importer, register_importer

_STAGES = range(1, 5)

_RENAMES = (
    # From the stages' numbers, 1 = finest, to positions.
    *((rf"^encoder\.eb{n}\.", f"encoder.{n - 1}.") for n in _STAGES),
    *((rf"^final\.ph{n}\.pro\.0\.", f"heads.{n - 1}.project.") for n in _STAGES),
    (r"^decoder\.cnsd\.", "decoder."),
    (r"^decoder\.fac\.(\d+)\.pro\.1\.", r"connect.\1.project.0."),
    (r"^decoder\.fac\.(\d+)\.pro\.2\.", r"connect.\1.project.1."),
    # Encoder: IPCB, PMB, DCB.
    (r"\.ipc\.", ".ipcb."),
    (r"\.pm\.proj\.", ".pmb.project."),
    (r"\.pm\.pro1\.", ".pmb.feed_forward.0."),
    (r"\.pm\.dwconv\.", ".pmb.feed_forward.1."),
    (r"\.pm\.pro2\.", ".pmb.feed_forward.3."),
    (r"\.pm\.", ".pmb."),
    (r"\.dc\.pro\.", ".dcb.project."),
    (r"\.dc\.deform\.offset\.", ".dcb.offset."),
    (r"\.dc\.deform\.deform\.", ".dcb.deformable."),
    (r"\.dc\.deform\.balance\.", ".dcb.fuse."),
    # Decoder: MSFA's eight branches, SFM with DFB, SAB and CAB.
    *((rf"\.msfa\.cfe{n}\.", f".msfa.same.{n - 1}.") for n in range(1, 5)),
    *((rf"\.msfa\.cfe{n}\.", f".msfa.enlarged.{n - 5}.") for n in (5, 6)),
    *((rf"\.msfa\.cfe{n}\.", f".msfa.reduced.{n - 7}.") for n in (7, 8)),
    (r"(\.msfa\.\w+\.\d+)\.extract\.", r"\1."),
    (r"(\.msfa\.\w+\.\d+)\.integrate\.0\.", r"\1.3."),
    (r"(\.msfa\.\w+\.\d+)\.integrate\.1\.", r"\1.4."),
    (r"\.msfa\.extract\.", ".msfa.fuse."),
    *((rf"\.sf\.attention\.0\.AP{n}\.", f".sfm.dfb.contexts.{n - 1}.") for n in range(1, 4)),
    (r"\.sf\.attention\.0\.weight\.", ".sfm.dfb.gate."),
    (r"\.sf\.attention\.0\.norm1\.", ".sfm.dfb.norm."),
    (r"\.sf\.attention\.0\.norm2\.", ".sfm.dfb.context_norm."),
    (r"\.sf\.attention\.1\.ave\.", ".sfm.sab.average."),
    (r"\.sf\.attention\.1\.max\.", ".sfm.sab.maximum."),
    (r"\.sf\.attention\.1\.conv\.", ".sfm.sab.gate."),
    (r"\.sf\.attention\.2\.conv\.", ".sfm.cab.gate."),
)


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    first = [state[f"encoder.eb{n}.ipc.0.weight"] for n in _STAGES]
    mamba = "encoder.eb1.pm.mamba."
    inner, d_state = state[mamba + "A_log"].shape
    return {
        "input_channels": first[0].shape[1],
        "num_classes": state["final.ph1.pro.0.weight"].shape[0],
        "widths": [weight.shape[0] for weight in first],
        "d_state": d_state,
        "d_conv": state[mamba + "conv1d.weight"].shape[-1],
        "expand": inner // state[mamba + "out_proj.weight"].shape[0],
    }


IMPORTER = register_importer(Importer(network="asc", arguments=_arguments, renames=_RENAMES))
