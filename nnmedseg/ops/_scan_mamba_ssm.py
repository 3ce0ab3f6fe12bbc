"""The selective scan by the fused CUDA kernel of the ``mamba-ssm`` package, mainly to compare."""

from __future__ import annotations

from torch import Tensor

from nnmedseg.ops._scan_inputs import ScanInputs


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Run the scan; raises whatever importing or running a missing or unfit package raises."""
    from mamba_ssm.ops.selective_scan_interface import (  # noqa: PLC0415 - optional, CUDA only
        selective_scan_fn,
    )

    tokens = (inputs.u, inputs.dt, inputs.B, inputs.C)
    u, dt, b, c = (x.transpose(1, 2).contiguous() for x in tokens)
    out, last_state = selective_scan_fn(
        u,
        dt,
        inputs.A,
        b,
        c,
        D=inputs.D,
        z=None if inputs.z is None else inputs.z.transpose(1, 2).contiguous(),
        delta_bias=inputs.dt_bias,
        delta_softplus=inputs.dt_softplus,
        return_last_state=True,
    )
    return out.transpose(1, 2), last_state
