"""The Mamba block (Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces").

Parameters have the names and start values of the reference implementation
(``state-spaces/mamba``), so that a checkpoint's entries load as they are.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.ops._precision import at_least_float32, without_autocast
from nnmedseg.ops.selective_scan import selective_scan


class MambaBlock(nn.Module):
    """A gated selective state-space model over a sequence; no norm and no residual inside.

    Args:
        d_model: Features of a token.
        d_state: States of each inner feature.
        d_conv: Taps of the causal depthwise convolution.
        expand: Inner features over ``d_model``.
    """

    def __init__(self, d_model: int, *, d_state: int = 16, d_conv: int = 4, expand: int = 2):
        super().__init__()
        inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log()
        self.A_log = nn.Parameter(rates.repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._start_steps()

    def _start_steps(self) -> None:
        """Start from steps that are log-uniform in [0.001, 0.1] after the softplus."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = math.log(0.001), math.log(0.1)
        steps = torch.exp(torch.rand_like(self.dt_proj.bias) * (high - low) + low).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(B, L, d_model)`` to tokens of the same shape."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = functional.silu(self._causal_conv(u))
        parts = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return self.out_proj(self._scan(u, z, *parts))

    def _causal_conv(self, u: Tensor) -> Tensor:
        """Convolve along the tokens ``(B, L, E)``: each output sees itself and those before it.

        As an image of one row in channels-last order: no copy of the tokens, and on a CPU ten
        times faster than one of one column.
        """
        taps = self.conv1d.weight.unsqueeze(2)
        row = u.transpose(1, 2).unsqueeze(2)
        padding = (0, taps.shape[3] - 1)
        out = functional.conv2d(row, taps, self.conv1d.bias, padding=padding, groups=u.shape[-1])
        return out[:, :, 0, : u.shape[1]].transpose(1, 2)

    def _scan(self, u: Tensor, z: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:  # noqa: N803
        # exp(dt A) over thousands of tokens needs float32, so autocast ends before dt_proj.
        wide = at_least_float32(u.dtype)
        with without_autocast(u.device.type):
            dt = functional.linear(dt.to(wide), self.dt_proj.weight.to(wide))
            out = selective_scan(
                u,
                dt,
                -torch.exp(self.A_log.to(wide)),
                B,
                C,
                D=self.D,
                z=z,
                dt_bias=self.dt_proj.bias,
                dt_softplus=True,
            )
        return cast(Tensor, out)


class GroupedMamba(MambaBlock):
    """One Mamba block for several groups of channels, each group added to its input.

    The groups go through the block together, stacked along the batch.

    Args:
        channels: Channels of all groups, a multiple of ``groups``.
        groups: Into how many equal groups the channels fall, in their order.
        d_state, d_conv, expand: See `MambaBlock`.
    """

    def __init__(
        self, channels: int, *, groups: int = 4, d_state: int = 16, d_conv: int = 4, expand: int = 2
    ):
        super().__init__(channels // groups, d_state=d_state, d_conv=d_conv, expand=expand)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(B, L, channels)`` to tokens of the same shape."""
        grouped = torch.cat(x.chunk(self.groups, dim=-1))
        grouped = super().forward(grouped) + grouped
        return torch.cat(grouped.chunk(self.groups), dim=-1)
