"""What operations take for themselves while they run, beside the tensors that they return.

Bytes by operation and type of device, from the operation's arguments; of the kernels that need
much, and of which it is known. cuDNN's workspaces are not: it chooses them while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

TAPS = 9
FLOAT = 4  # bytes


def _deformable(x: Tensor, *_: Any) -> int:
    """The map unfolded by the taps of the kernel, and a buffer for the result."""
    return (TAPS + 1) * x.nbytes


def _deformable_backward(_grad_out: Tensor, x: Tensor, *_: Any) -> int:
    """The gradient of the unfolded map."""
    return TAPS * x.nbytes


def _attention_backward(_grad_out: Tensor, query: Tensor, *_: Any) -> int:
    """The gradient of the query, added up in float32."""
    return query.numel() * FLOAT


def _scan(u: Tensor, _dt: Tensor, a: Tensor, *_: Any) -> int:
    """The states in which chunks end and start."""
    return 2 * _states_of_chunks(u, a)


def _scan_backward(_out: Tensor, _last: Tensor, _kept: Tensor, u: Tensor, *rest: Any) -> int:
    """Adjoint states of chunks, and sums that each block of channels adds up for itself."""
    from nnmedseg.ops._scan_triton import BLOCK_CHANNELS  # noqa: PLC0415 - needs Triton

    a = rest[1]
    batch, length, channels = u.shape
    blocks = -(-channels // BLOCK_CHANNELS)
    sums = 2 * blocks * batch * length * a.shape[1] * FLOAT if blocks > 1 else 0
    return 3 * _states_of_chunks(u, a) + sums


def _states_of_chunks(u: Tensor, a: Tensor) -> int:
    from nnmedseg.ops._scan_triton import chunk_tokens  # noqa: PLC0415 - needs Triton

    batch, length, _ = u.shape
    return batch * -(-length // chunk_tokens(length)) * a.numel() * FLOAT


WORKSPACES: Mapping[str, Mapping[str, Callable[..., int]]] = {
    "cpu": {},
    "cuda": {
        "torchvision::deform_conv2d": _deformable,
        "torchvision::_deform_conv2d_backward": _deformable_backward,
        "aten::_scaled_dot_product_flash_attention_backward": _attention_backward,
        "aten::_scaled_dot_product_efficient_attention_backward": _attention_backward,
        "nnmedseg::selective_scan_triton": _scan,
        "nnmedseg::selective_scan_triton_backward": _scan_backward,
    },
}
