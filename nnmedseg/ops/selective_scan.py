# ruff: noqa: N803, N806 - A, B, C and D are what the field calls these matrices
"""The selective scan of Mamba (Gu and Dao, 2023, section 3), in whichever form is quickest here.

The environment variable ``NNMEDSEG_SCAN`` forces a form; it is read at each call:

- ``numba``: compiled for the processor, what CPUs use;
- ``triton``: compiled for the GPU, what CUDA devices use;
- ``chunked``: plain PyTorch, what is used everywhere else and where another form fails;
- ``mamba_ssm``: the fused kernel of the ``mamba-ssm`` package, CUDA only, mainly to compare.

A form that fails is given up with one warning, and the chunked one takes over; float64 is always
scanned in the chunked form. Programs of ``torch.compile`` hold the form that was chosen when they
were traced, those of ``torch.export`` the chunked one, each as one operator; to load an exported
program, import ``nnmedseg.ops`` first. In exports to ONNX the chunked form is made of plain ones.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from nnmedseg.ops import _scan_chunked, _scan_traced
from nnmedseg.ops._forms import Forms
from nnmedseg.ops._precision import at_least_float32
from nnmedseg.ops._scan_inputs import ScanForm, ScanInputs


def _imported(module: str) -> Callable[[], ScanForm]:
    """What imports a form when it is first wanted, as compilers take long to import."""
    return lambda: cast(ScanForm, importlib.import_module(f"nnmedseg.ops.{module}").scan)


def _attempt(form: ScanForm, device_type: str) -> None:
    """Compare a form with the chunked one, gradients included; raises where they differ."""
    results = []
    with torch.inference_mode(False), torch.enable_grad():
        for scan in (form, _scan_chunked.scan):
            tensors = [tensor.to(device_type).requires_grad_() for tensor in _example()]
            out, last_state = scan(_inputs(tensors))
            loss = out.square().sum() + last_state.sum()
            results.append([out, last_state, *torch.autograd.grad(loss, tensors)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def _inputs(tensors: list[Tensor]) -> ScanInputs:
    u, dt, A, B, C, D, z, dt_bias = tensors
    return ScanInputs(u, dt, A, B, C, D, z, dt_bias, dt_softplus=True)


def _example() -> list[Tensor]:
    """Inputs of 40 tokens, 2 channels and 3 states, in their order."""
    tokens, channels, states = (1, 40, 2), (2,), (1, 40, 3)
    shapes = (tokens, tokens, (2, 3), states, states, channels, tokens, channels)
    waves = [
        torch.arange(1, 1 + math.prod(shape), dtype=torch.float32, device="cpu").sin().view(shape)
        for shape in shapes
    ]
    waves[2] = -waves[2].abs() - 0.1
    return waves


_forms = Forms(
    "selective scan",
    variable="NNMEDSEG_SCAN",
    loaders={
        "chunked": lambda: _scan_chunked.scan,
        "numba": _imported("_scan_numba"),
        "triton": _imported("_scan_triton"),
        "mamba_ssm": _imported("_scan_mamba_ssm"),
    },
    preferred={"cpu": "numba", "meta": "numba", "cuda": "triton"},
    fallback="chunked",
    float32_only=("numba", "triton", "mamba_ssm"),
    attempt=_attempt,
)


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
        ValueError: Shapes do not belong together.
    """
    inputs = ScanInputs(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    inputs.check()
    inputs = inputs.to(at_least_float32(u.dtype))
    # ONNX knows no operator of ours.
    traced = torch.onnx.is_in_onnx_export()
    out, last_state = _scan_traced.scan(inputs) if traced else _forms.run(inputs.u, inputs)
    out = out.to(u.dtype)
    return (out, last_state) if return_last_state else out
