"""The VSSD block (Shi et al., "VSSD: Vision Mamba with Non-Causal State Space Duality").

Parameters have the meaning and start values of the state-space mixer of Mamba-2.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.errors import UserError
from nnmedseg.networks.layers.token_grid import MLP, TokenDepthwiseConv2d, drop_path
from nnmedseg.ops._precision import at_least_float32, without_autocast
from nnmedseg.ops.ssd import bidirectional_ssd, causal_ssd, noncausal_ssd

Form = Literal["causal", "noncausal", "bidirectional"]

_FORMS = {
    "causal": causal_ssd,
    "noncausal": noncausal_ssd,
    "bidirectional": bidirectional_ssd,
}


class VSSDMixer(nn.Module):
    """A gated state-space model with one decay a head, over a grid of tokens in row-major order.

    The gate is linear: the normalised output is multiplied by the projection ``z`` as it is. The
    parameters do not depend on the form.

    Args:
        channels: Features of a token.
        heads: Heads, each with its own decay and step size.
        form: Which tokens a token sees: ``causal``, those before it; ``noncausal``, all of them
            alike; ``bidirectional``, for half of the heads those before and for half those after.
        d_state: States of each inner feature.
        expand: Inner features over ``channels``.
        groups: Input and output vectors a token, shared by ``heads / groups`` heads each.

    Raises:
        UserError: The form does not go with the number of groups.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        form: Form = "causal",
        d_state: int = 64,
        expand: int = 2,
        groups: int = 1,
    ):
        super().__init__()
        _check_groups(form, groups, heads)
        inner = expand * channels
        self.form, self.heads, self.groups, self.d_state = form, heads, groups, d_state
        self.inner = inner
        mixed = inner + 2 * groups * d_state
        self.in_proj = nn.Linear(channels, inner + mixed + heads, bias=False)
        self.conv = TokenDepthwiseConv2d(mixed, 3)
        self.dt_bias = nn.Parameter(_start_of_step_biases(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = _WideLayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map a grid of tokens ``(B, H, W, C)`` to one of the same shape."""
        # Each part has its own product: the convolution then reads dense maps without a copy.
        gate, mixed, step = self.in_proj.weight.split(
            [self.inner, self.conv.in_channels, self.heads]
        )
        z = functional.linear(x, gate)
        convolved = functional.silu(self.conv(functional.linear(x, mixed)))
        y = self._mix(convolved.flatten(1, 2), self._steps(x.flatten(1, 2), step))
        return self.out_proj(self.norm(y.view(z.shape)).to(z.dtype) * z)

    def _steps(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """Step sizes ``(B, L, heads)`` in float32, as they are summed over thousands of tokens."""
        wide = at_least_float32(tokens.dtype)
        with without_autocast(tokens.device.type):
            steps = functional.linear(tokens.to(wide), weight.to(wide), self.dt_bias.to(wide))
            return functional.softplus(steps)

    def _mix(self, tokens: Tensor, dt: Tensor) -> Tensor:
        states = self.groups * self.d_state
        x, b, c = tokens.split([self.inner, states, states], dim=-1)
        y = _FORMS[self.form](
            x.unflatten(-1, (self.heads, -1)),
            dt,
            -torch.exp(self.A_log.to(dt.dtype)),
            b.unflatten(-1, (self.groups, -1)),
            c.unflatten(-1, (self.groups, -1)),
            self.D,
        )
        return y.flatten(2)


class _WideLayerNorm(nn.LayerNorm):
    """A layer norm in the type of its input, which may be wider than its weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class VSSDBlock(nn.Module):
    """A residual mixer and a residual MLP, each after a residual depthwise convolution.

    Args:
        channels: Features of a token.
        heads: Heads of the mixer.
        mlp_ratio: Inner features of the MLP over ``channels``.
        drop_path_rate: Rate of stochastic depth of mixer and MLP.
        form, d_state, expand, groups: See `VSSDMixer`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        mlp_ratio: int = 3,
        drop_path_rate: float = 0.0,
        form: Form = "causal",
        d_state: int = 64,
        expand: int = 2,
        groups: int = 1,
    ):
        super().__init__()
        self.position1 = TokenDepthwiseConv2d(channels, 3)
        self.norm1 = nn.LayerNorm(channels)
        self.mixer = VSSDMixer(
            channels, heads, form=form, d_state=d_state, expand=expand, groups=groups
        )
        self.position2 = TokenDepthwiseConv2d(channels, 3)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, mlp_ratio)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map a grid of tokens ``(B, H, W, C)`` to one of the same shape."""
        x = x + self.position1(x)
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        x = x + self.position2(x)
        return x + self.drop_path(self.mlp(self.norm2(x)))


def _start_of_step_biases(heads: int) -> Tensor:
    """Biases whose softplus is log-uniform in [0.001, 0.1]."""
    steps = torch.exp(torch.empty(heads).uniform_(math.log(0.001), math.log(0.1))).clamp(min=1e-4)
    return steps + torch.log(-torch.expm1(-steps))


def _check_groups(form: str, groups: int, heads: int) -> None:
    if form not in get_args(Form):
        raise UserError(
            f"The state-space mixer has no form {form!r}",
            mend=f"use one of: {', '.join(get_args(Form))}",
        )
    fits = {"causal": groups >= 1, "noncausal": groups == 1, "bidirectional": groups % 2 == 0}
    if not fits[form] or groups < 1 or heads % groups:
        raise UserError(
            f"The {form} form of the state-space mixer cannot have {groups} groups",
            where=f"{heads} heads",
            mend="use one group for the non-causal form and an even number for the bidirectional "
            "one, and a number of heads that the groups divide",
        )
