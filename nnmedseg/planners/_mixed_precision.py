"""CUDA's float16 autocast for tensors of any device, with or without values.

PyTorch's own autocast acts on CUDA tensors only. This does the same casts, by the names of the
functions, before PyTorch's dispatcher sees the call, so that it works with ``meta`` tensors and
their backward pass on any build of PyTorch. The lists are those of PyTorch's documentation ("CUDA
Ops that can autocast to float16", "... to float32", "... that promote to the widest input type");
in-place variants and those with ``out=`` are in none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TO_FLOAT16 = _names(
    "addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc"
    " conv_transpose1d conv_transpose2d conv_transpose3d convolution einsum gru_cell linear"
    " linalg_multi_dot linalg_vecdot lstm_cell matmul mm multi_dot mv prelu rnn_relu_cell"
    " rnn_tanh_cell scaled_dot_product_attention vecdot"
)
TO_FLOAT32 = _names(
    "acos arccos arcsin asin binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss"
    " cosine_similarity cross_entropy_loss dist erfinv exp expm1 frobenius_norm group_norm"
    " hinge_embedding_loss huber_loss kl_div l1_loss layer_norm log log10 log1p log2 logsumexp"
    " margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss native_layer_norm"
    " nll_loss nll_loss_nd nuclear_norm pdist poisson_nll_loss pow reciprocal renorm rms_norm rpow"
    " rsqrt sinh smooth_l1_loss soft_margin_loss softplus tan triplet_margin_loss"
    " _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d"
    " _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_bicubic2d upsample_bilinear2d"
    " upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d"
    " upsample_trilinear3d"
)
RESULT_IN_FLOAT32 = _names(
    "cumprod cumsum linalg_matrix_norm linalg_norm linalg_vector_norm log_softmax matrix_norm norm"
    " prod softmax sum vector_norm"
)
TO_WIDEST = _names(
    "addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_put scatter_add stack"
    " tensordot vdot"
)


class Autocast:
    """The casts; weights that are cast are kept until the region of autocast ends."""

    def __init__(self) -> None:
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def forget_weights(self) -> None:
        """Drop the float16 copies of weights, as the end of a region of autocast does."""
        self._weights.clear()

    def cast(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return the arguments as autocast hands them to the function called ``name``."""
        name = name.strip("_") if name.startswith("__") else name
        if kwargs.get("out") is not None:
            return args, dict(kwargs)
        if name in TO_FLOAT16 or name.removeprefix("r") == "matmul":
            return self._with(lambda tensor: self._to(tensor, torch.float16), args, kwargs)
        if name in TO_FLOAT32:
            return self._with(lambda tensor: self._to(tensor, torch.float32), args, kwargs)
        if name in RESULT_IN_FLOAT32 and kwargs.get("dtype") is None and _is_half(args):
            return args, {**kwargs, "dtype": torch.float32}
        if name in TO_WIDEST and _has_float32((args, kwargs)):
            return self._with(lambda tensor: self._to(tensor, torch.float32), args, kwargs)
        return args, dict(kwargs)

    @staticmethod
    def _with(
        change: Callable[[Tensor], Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        changed: tuple[Sequence[Any], dict[str, Any]] = tree_map(
            lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, (args, dict(kwargs))
        )
        return changed

    def _to(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype in {dtype, torch.float64}:
            return tensor
        is_weight = tensor.is_leaf and tensor.requires_grad and not tensor._is_view()
        if not is_weight or dtype != torch.float16:
            return tensor.to(dtype)
        if id(tensor) not in self._weights:
            self._weights[id(tensor)] = (tensor, tensor.to(dtype))
        return self._weights[id(tensor)][1]


def _is_half(args: Sequence[Any]) -> bool:
    return isinstance(args[0], Tensor) and args[0].dtype in {torch.float16, torch.bfloat16}


def _has_float32(arguments: Any) -> bool:
    return any(
        isinstance(leaf, Tensor) and leaf.dtype == torch.float32 for leaf in tree_leaves(arguments)
    )
