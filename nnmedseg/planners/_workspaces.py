"""What operations take for themselves while they run, beside the tensors that they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

TAPS = 9


def _columns(x: Tensor, *_: Any) -> int:
    """The unfolded map, from which torchvision's deformable convolution multiplies."""
    return TAPS * x.numel() * x.element_size()


def _columns_of_gradient(_grad_out: Tensor, x: Tensor, *_: Any) -> int:
    return _columns(x)


WORKSPACES: Mapping[str, Mapping[str, Callable[..., int]]] = {
    "cpu": {},
    "cuda": {
        "torchvision::deform_conv2d": _columns,
        "torchvision::_deform_conv2d_backward": _columns_of_gradient,
    },
}
