# ruff: noqa: PLR0917 - in the order in which our operations take them
"""The operations that ours are compared with, as they are usually written.

- `sequential_scan`: the selective scan as Mamba's reference implementation has it (there
  ``selective_scan_ref``), a loop over the tokens of tensors laid out ``(B, D, L)``. Its backward
  writes a tensor of full size for each token that was read, so its time grows with L squared;
- `fused_cuda_scan`: the selective scan by the CUDA kernel of the ``mamba-ssm`` package;
- `torchvision_deformable`: torchvision's deformable convolution;
- `native_depthwise`: PyTorch's depthwise convolution, on maps in NCHW;
- `per_head_ssd`: the non-causal state-space duality head by head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def sequential_scan(
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    gate: Tensor,
    dt_bias: Tensor,
) -> Tensor:
    """One token after another, with softplus, skip and gate.

    Args:
        u: Input ``(B, D, L)``.
        dt: Step sizes before bias and softplus, of the same shape.
        rates: ``(D, N)``, negative.
        b: Input vectors ``(B, N, L)``.
        c: Output vectors, of the same shape.
        skip: ``(D,)``.
        gate: ``(B, D, L)``.
        dt_bias: ``(D,)``.

    Returns:
        ``(B, D, L)``.
    """
    delta = functional.softplus(dt + dt_bias[:, None])
    decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, rates))
    sources = torch.einsum("bdl,bnl,bdl->bdln", delta, b, u)
    state = u.new_zeros(u.shape[0], *rates.shape)
    outputs = []
    for token in range(u.shape[2]):
        state = decays[:, :, token] * state + sources[:, :, token]
        outputs.append(torch.einsum("bdn,bn->bd", state, c[:, :, token]))
    y = torch.stack(outputs, dim=2)
    return (y + skip[:, None] * u) * functional.silu(gate)


def fused_cuda_scan(*inputs: Tensor) -> Tensor:
    """Arguments and result as of `sequential_scan`."""
    from mamba_ssm.ops.selective_scan_interface import (  # noqa: PLC0415 - optional, CUDA only
        selective_scan_fn,
    )

    return selective_scan_fn(*inputs, delta_softplus=True)


def torchvision_deformable(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Arguments and result as of `nnmedseg.ops.deformable_depthwise_conv`."""
    from torchvision.ops import deform_conv2d  # noqa: PLC0415 - the rest runs without it

    return deform_conv2d(x, offset, weight, padding=1)


def native_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Arguments and result as of `nnmedseg.ops.depthwise_conv`."""
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return functional.conv2d(x.contiguous(), weight, bias, padding=padding, groups=x.shape[1])


def per_head_ssd(
    x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    """Arguments and result as of `nnmedseg.ops.ssd.noncausal_ssd`."""
    heads = x.shape[2]
    values = x.permute(0, 2, 1, 3)
    weights = (-dt * rates).permute(0, 2, 1).unsqueeze(-1)
    keys, queries = (vectors.permute(0, 2, 1, 3).repeat(1, heads, 1, 1) for vectors in (b, c))
    state = keys.transpose(-2, -1) @ (values * weights)
    y = queries @ state + values * skip[:, None, None]
    return y.permute(0, 2, 1, 3).contiguous()
