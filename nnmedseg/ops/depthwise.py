"""Depthwise convolution with large kernels, made fast for training on a CPU.

oneDNN's gradient of depthwise weights reaches a few GFLOP/s only. For kernels of 7 and more the
gradient of the weights is therefore the cross-correlation of input and incoming gradient at the
kernel's lags, by FFT, and the gradient of the input a convolution with the flipped kernel.
Elsewhere (small kernels, inference, other devices) the native operation is used.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel with its own filter, stride 1, so that the size stays.

    Args:
        x: Maps ``(B, C, H, W)``.
        weight: Filters ``(C, 1, kh, kw)``, both odd.
        bias: One value a channel ``(C,)``.

    Returns:
        Maps ``(B, C, H, W)``.
    """
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return functional.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])
