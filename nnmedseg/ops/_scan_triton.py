# ruff: noqa: N803, N806 - A, B, C and D are what the field calls these matrices
# ruff: noqa: PLR0917 - as custom operators are, all is given by position
"""The selective scan in Triton: all chunks of all sequences at once, in three passes.

The sequence is cut into K chunks, and a program of one warp takes 8 channels of one of them:

1. from a zero state, it finds the state in which its chunk ends;
2. another kernel carries the states over the chunks, whose total decay is ``exp(A sum of delta)``;
3. from the right state, it goes through its chunk again and writes the output.

Only exponentials of negative numbers occur, so no step size overflows. Softplus, bias, skip and
gate are computed inside. The backward pass is the mirror image, with the adjoint state; the states
are recomputed from those before every eighth token, which the forward pass keeps. Nothing is added
up in an order that could change from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from nnmedseg.ops import _scan_triton_kernels as kernels
from nnmedseg.ops._scan_fused import define_scan
from nnmedseg.ops._scan_triton_tiles import TILE

TILE_TOKENS: int = TILE.value
"""Tokens between two states that are kept for the backward pass."""

BLOCK_CHANNELS = 8
"""Channels a program: with 16 states each, 4 for each thread of a warp, which needs no barriers."""

STATES_A_WARP = 128
"""States that a warp takes per token."""


def kept_shape(u_shape: Sequence[int], states: int) -> tuple[int, ...]:
    """Shape of what `forward` keeps: the state before each tile of tokens, ``(B, tiles, N, D)``."""
    batch, length, channels = u_shape
    return batch, -(-length // TILE_TOKENS), states, channels


def chunk_tokens(length: int) -> int:
    """Tokens a chunk, a power of two.

    What happens one after another are the tiles of a chunk, then the chunks: least at sqrt(length).
    """
    return max(TILE_TOKENS, 2 ** round(math.log2(max(length, 1)) / 2))


class _Launch:
    """Shapes, blocks and grids that the kernels of a pass have in common."""

    def __init__(self, u: Tensor, A: Tensor, dt_softplus: bool):
        self.device = u.device
        self.batch, self.length, self.channels = u.shape
        self.states = A.shape[1]
        self.chunk = chunk_tokens(self.length)
        self.chunks = -(-self.length // self.chunk)
        self.softplus = dt_softplus
        block_channels = min(BLOCK_CHANNELS, triton.next_power_of_2(self.channels))
        block_states = triton.next_power_of_2(self.states)
        self.blocks = -(-self.channels // block_channels)
        self.constants = {
            "WIDTH": self.channels,
            "STATES": self.states,
            "BLOCK_D": block_channels,
            "BLOCK_N": block_states,
            "num_warps": min(max(block_channels * block_states // STATES_A_WARP, 1), 16),
            "enable_fp_fusion": True,
        }

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def tokens(self) -> Tensor:
        return self.empty(self.batch, self.length, self.channels)

    def over_chunks(self, kernel: Any, **arguments: Any) -> None:
        """Run a kernel for each chunk."""
        sizes = {"length": self.length, "chunk": self.chunk, "chunks": self.chunks}
        grid = (self.batch * self.chunks * self.blocks,)
        with self._on_device():
            kernel[grid](**arguments, **sizes, SOFTPLUS=self.softplus, **self.constants)

    def starts(
        self, kernel: Any, A: Tensor, initial: Tensor | None, **arguments: Any
    ) -> tuple[Tensor, Tensor]:
        """The states ``(B, K, N, D)`` that chunks start from, and the one behind the last of them.

        Args:
            kernel: ``chunk_ends``, or ``chunk_adjoints`` which goes backwards.
            A: Rates ``(D, N)``.
            initial: What the first chunk starts from ``(B, D, N)``.
            arguments: The kernel's other tensors.
        """
        ends = self.empty(self.batch, self.chunks, self.states, self.channels)
        totals = self.empty(self.batch, self.chunks, self.channels)
        self.over_chunks(kernel, **arguments, A=A, ends=ends, totals=totals)
        starts, final = torch.empty_like(ends), self.empty(self.batch, self.channels, self.states)
        with self._on_device():
            kernels.carry[(self.batch * self.blocks,)](
                A=A,
                initial=initial,
                ends=ends,
                totals=totals,
                starts=starts,
                final=final,
                chunks=self.chunks,
                BACKWARDS=kernel is kernels.chunk_adjoints,
                **self.constants,
            )
        return starts, final

    def _on_device(self) -> AbstractContextManager[object]:
        # Triton launches on the current device, whichever the tensors are on.
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def _strided(**tensors: Tensor | None) -> dict[str, Any]:
    """Arguments for tensors ``(B, L, F)``: each with its strides, zero where there is no tensor."""
    arguments: dict[str, Any] = {}
    for name, given in tensors.items():
        tensor = given if given is None or given.stride(-1) == 1 else given.contiguous()
        batch, token = (0, 0) if tensor is None else tensor.stride()[:2]
        arguments |= {name: tensor, f"{name}_batch": batch, f"{name}_token": token}
    return arguments


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _total(parts: Tensor | None) -> Tensor | None:
    if parts is None:
        return None
    return parts[0] if parts.shape[0] == 1 else parts.sum(0)


def forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output ``(B, L, D)``, last state ``(B, D, N)`` and the states kept for `backward`."""
    launch = _Launch(u, A, dt_softplus)
    A, D, dt_bias = A.contiguous(), _contiguous(D), _contiguous(dt_bias)
    inputs = _strided(u=u, dt=dt, B=B)
    starts, last_state = launch.starts(kernels.chunk_ends, A, None, **inputs, dt_bias=dt_bias)
    out, kept = launch.tokens(), launch.empty(*kept_shape(u.shape, launch.states))
    launch.over_chunks(
        kernels.outputs,
        **inputs,
        **_strided(C=C, z=z),
        A=A,
        D=D,
        dt_bias=dt_bias,
        starts=starts,
        kept=kept,
        out=out,
    )
    return out, last_state, kept


def backward(
    grad_out: Tensor,
    grad_last: Tensor,
    kept: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``u, dt, A, B, C, D, z, dt_bias``, none for what is none."""
    launch = _Launch(u, A, dt_softplus)
    A, D, dt_bias = A.contiguous(), _contiguous(D), _contiguous(dt_bias)
    outer = _strided(grad_out=grad_out, dt=dt, C=C, z=z)
    adjoints, _ = launch.starts(
        kernels.chunk_adjoints, A, grad_last.contiguous(), **outer, dt_bias=dt_bias
    )
    # Sums over tokens have a part for each chunk, sums over channels one for each block of them.
    rows = launch.batch * launch.chunks
    grad_A = launch.empty(rows, launch.states, launch.channels)
    parts = (launch.blocks, launch.batch, launch.length, launch.states)
    gradients = {
        "grad_u": launch.tokens(),
        "grad_dt": launch.tokens(),
        "grad_B": launch.empty(*parts),
        "grad_C": launch.empty(*parts),
        "grad_D": None if D is None else launch.empty(rows, launch.channels),
        "grad_z": None if z is None else launch.tokens(),
        "grad_dt_bias": None if dt_bias is None else launch.empty(rows, launch.channels),
    }
    launch.over_chunks(
        kernels.gradients,
        **outer,
        **_strided(u=u, B=B),
        **gradients,
        grad_A=grad_A,
        A=A,
        D=D,
        dt_bias=dt_bias,
        adjoints=adjoints,
        kept=kept,
        batches=launch.batch,
    )
    return (
        gradients["grad_u"],
        gradients["grad_dt"],
        grad_A.sum(0).t().contiguous(),
        _total(gradients["grad_B"]),
        _total(gradients["grad_C"]),
        _total(gradients["grad_D"]),
        gradients["grad_z"],
        _total(gradients["grad_dt_bias"]),
    )


scan = define_scan("triton", forward, backward, kept_shape)
