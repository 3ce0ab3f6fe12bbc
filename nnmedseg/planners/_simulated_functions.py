"""What PyTorch's functions do on a device, done on ``meta``."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nnmedseg.planners._mixed_precision import Autocast

FLASH_WIDTH = 256  # features of a head, at most, in CUDA's flash attention
FLASH_MULTIPLE = 8  # to which it pads them


class SimulatedFunctions(TorchFunctionMode):
    """Makes PyTorch's functions choose for ``meta`` tensors what they would choose on a device.

    That is the fused attention, which never keeps the matrix of all pairs, CUDA's dropout and
    softmax, and the casts of CUDA's autocast wherever ``torch.is_autocast_enabled("cuda")`` says
    that it is on.

    Args:
        device_type: ``"cuda"`` or ``"cpu"``.
    """

    def __init__(self, device_type: str):
        super().__init__()
        self.autocast = Autocast()
        self._replaced = _REPLACED[device_type]
        self._inside: set[Any] = set()

    def __torch_function__(
        self, func: Any, types_: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch, or what stands for it."""
        kwargs = kwargs or {}
        if isinstance(func, types.FunctionType) and func not in self._inside:
            return self._run_inside(func, args, kwargs)
        name = getattr(func, "__name__", "")
        if torch.is_autocast_enabled("cuda"):
            args, kwargs = self.autocast.cast(name, args, kwargs)
        return self._replaced.get(name, func)(*args, **kwargs)

    def _run_inside(
        self, func: types.FunctionType, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a function that is written in Python, with this mode on for those it calls."""
        self._inside.add(func)
        try:
            with self:
                return _undiverted(func)(*args, **kwargs)
        finally:
            self._inside.discard(func)


@cache
def _undiverted(func: types.FunctionType) -> Callable[..., Any]:
    """Copy a function of PyTorch without its first lines' question whether a mode is on."""
    asks = [name for name in func.__code__.co_names if name.startswith("has_torch_function")]
    unasked = func.__globals__ | dict.fromkeys(asks, lambda *_: False)
    copy = types.FunctionType(
        func.__code__, unasked, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _attention_on_cuda(  # noqa: PLR0917 - PyTorch's signature
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Flash attention where it can be used, memory-efficient attention elsewhere."""
    given = (query, key, value)
    if enable_gqa or query.dim() != 4:
        return functional.scaled_dot_product_attention(
            *given, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    width = query.shape[-1]
    scale = scale or width**-0.5
    is_half = query.dtype in {torch.float16, torch.bfloat16}
    if is_half and attn_mask is None and width <= FLASH_WIDTH and value.shape[-1] == width:
        padded = (functional.pad(x, (0, -width % FLASH_MULTIPLE)) for x in given)
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        out: Tensor = flash(*padded, dropout_p, is_causal, scale=scale)[0]
        return out[..., :width]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
    learns = any(x.requires_grad for x in given)
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = efficient(*given, attn_mask, learns, dropout_p, is_causal, scale=scale)[0]
    return result


def _attention_on_cpu(  # noqa: PLR0917 - PyTorch's signature
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The CPU's flash attention where it can be used."""
    given = (query, key, value)
    learns_mask = attn_mask is not None and attn_mask.requires_grad
    same_width = query.shape[-1] == key.shape[-1] == value.shape[-1]
    if dropout_p or enable_gqa or learns_mask or not same_width or query.dim() != 4:
        return functional.scaled_dot_product_attention(
            *given, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out: Tensor = flash(*given, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _dropout_on_cuda(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """CUDA's dropout keeps a mask of bytes."""
    return torch.native_dropout(x, p, True)[0] if training and 0 < p < 1 else x


def _softmax_on_cuda(
    x: Tensor, dim: int, _stacklevel: Any = None, *, dtype: torch.dtype | None = None
) -> Tensor:
    """CUDA's softmax reads float16 and writes float32 without a copy between."""
    if x.dtype == torch.float16 and dtype == torch.float32:
        return torch._softmax(x, dim, True)
    return torch.softmax(x, dim, dtype=dtype)


_REPLACED: dict[str, dict[str, Callable[..., Any]]] = {
    "cpu": {"scaled_dot_product_attention": _attention_on_cpu},
    "cuda": {
        "scaled_dot_product_attention": _attention_on_cuda,
        "dropout": _dropout_on_cuda,
        "softmax": _softmax_on_cuda,
    },
}
