# ruff: noqa: N803 - A, B, C and D are what the field calls these matrices
"""The selective scan of Mamba (Gu and Dao, 2023, section 3), in whichever form is at hand.

The environment variable ``NNMEDSEG_SCAN`` chooses the form, read at each call:

- ``chunked`` (default): plain PyTorch, every device;
- ``mamba_ssm``: the fused kernel of the ``mamba-ssm`` package, CUDA only.

A form that fails at its first use is given up with one warning, and the chunked one takes over.
Programs of ``torch.compile`` and ``torch.export`` always hold the chunked form, as one operator;
to load a saved one, import ``nnmedseg.ops`` first.
"""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from nnmedseg.errors import UserError
from nnmedseg.ops import _scan_chunked, _scan_mamba_ssm
from nnmedseg.ops._precision import at_least_float32
from nnmedseg.ops._scan_inputs import ScanForm, ScanInputs

_log = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "NNMEDSEG_SCAN"

_FORMS: dict[str, ScanForm] = {"chunked": _scan_chunked.scan, "mamba_ssm": _scan_mamba_ssm.scan}
_given_up: set[str] = set()
_announced: set[str] = set()


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run a diagonal state-space model whose step, input and output vary by token.

    With ``delta = softplus(dt + dt_bias)`` and ``h`` zero before the first token::

        h_t[d, n] = exp(delta_t[d] A[d, n]) h_{t-1}[d, n] + delta_t[d] u_t[d] B_t[n]
        y_t[d]    = sum_n C_t[n] h_t[d, n] + D[d] u_t[d]
        out_t     = y_t * silu(z_t)

    States, steps and sums are float32 (float64 for float64 input), also under autocast.

    Args:
        u: Input ``(B, L, D)``; channels last, as linear layers write it.
        dt: Step sizes ``(B, L, D)``, before bias and softplus where these are asked for.
        A: Rates ``(D, N)``, negative.
        B: Input vectors ``(B, L, N)``.
        C: Output vectors ``(B, L, N)``.
        D: Weights of the skip from ``u`` to the output ``(D,)``.
        z: Gate ``(B, L, D)``.
        dt_bias: Added to ``dt`` ``(D,)``.
        dt_softplus: Whether the step sizes go through a softplus.
        return_last_state: Whether to return the state after the last token too.

    Returns:
        ``out`` ``(B, L, D)`` in the type of ``u``; with ``return_last_state`` also the last state
        ``(B, D, N)`` in float32 (float64).

    Raises:
        UserError: ``NNMEDSEG_SCAN`` names an unknown form.
    """
    inputs = ScanInputs(u, dt, A, B, C, D, z, dt_bias, dt_softplus).to(at_least_float32(u.dtype))
    out, last_state = _run(_chosen_form(), inputs)
    out = out.to(u.dtype)
    return (out, last_state) if return_last_state else out


def _chosen_form() -> str:
    name = os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or "chunked"
    if name not in _FORMS:
        raise UserError(
            f"Unknown form of the selective scan: {name!r}",
            where=f"environment variable {ENVIRONMENT_VARIABLE}",
            mend=f"set it to one of {', '.join(sorted(_FORMS))}, or unset it",
        )
    return "chunked" if name in _given_up else name


def _run(name: str, inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    device = inputs.u.device.type
    # In a traced program and where there are shapes only, the chunked form stands for the others.
    if torch.compiler.is_compiling() or device == "meta" or isinstance(inputs.u, FakeTensor):
        return _scan_chunked.scan(inputs)
    if name not in _announced:
        _log.info("selective scan: %s on %s", name, device)
    try:
        result = _FORMS[name](inputs)
    except Exception as error:
        if name == "chunked" or name in _announced:
            raise
        # A binary built for another PyTorch raises OSError, a missing one ImportError, and so on.
        _given_up.add(name)
        _log.warning("selective scan: %s failed (%s); using the chunked form", name, error)
        return _run("chunked", inputs)
    _announced.add(name)
    return result
