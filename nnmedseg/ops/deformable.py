"""Deformable 3x3 depthwise convolution (Dai et al., 2017) whose channels share the offsets.

On CUDA it is torchvision's operation where torchvision is there. Elsewhere it is nine bilinear
samplings of the whole map, one a tap, each times one weight a channel: on a CPU several times
faster than torchvision's, and it works wherever PyTorch does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.ops._precision import at_least_float32, without_autocast


def deformable_depthwise_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``x`` with 3x3 filters, one a channel, whose taps are moved pixel by pixel.

    Output pixel (i, j), tap (r, c) of k = 3 r + c reads the input at row ``i - 1 + r + dy`` and
    column ``j - 1 + c + dx``, bilinearly, with zeros outside the map.

    Args:
        x: Maps ``(B, C, H, W)``.
        offset: Offsets in pixels ``(B, 18, H, W)``: channel 2 k is dy of tap k, 2 k + 1 its dx.
        weight: Filters ``(C, 1, 3, 3)``.

    Returns:
        Maps ``(B, C, H, W)``, in the type of ``x``.
    """
    wide = at_least_float32(x.dtype)
    x_wide, offset, weight = x.to(wide), offset.to(wide), weight.to(wide)
    with without_autocast(x.device.type):
        if x.device.type == "cuda":
            out = _torchvision(x_wide, offset, weight)
        else:
            out = nine_samplings(x_wide, offset, weight)
    return out.to(x.dtype)


def _torchvision(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    try:
        from torchvision.ops import deform_conv2d  # noqa: PLC0415 - slow to import, CUDA only
    except Exception:  # a torchvision built for another PyTorch raises more than ImportError
        return nine_samplings(x, offset, weight)
    return deform_conv2d(x, offset, weight, padding=1)


def nine_samplings(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The convolution as nine samplings of the map; arguments as `deformable_depthwise_conv`."""
    channels, height, width = x.shape[1:]
    rows = torch.arange(height, dtype=x.dtype, device=x.device).view(1, height, 1)
    columns = torch.arange(width, dtype=x.dtype, device=x.device).view(1, 1, width)
    # grid_sample writes channel by channel: everything around it should lie that way too.
    maps = x.contiguous()
    moves = offset.contiguous().unbind(1)
    filters = weight.view(channels, 9).t().reshape(9, 1, channels, 1, 1).unbind(0)
    total = torch.zeros_like(maps)
    for tap in range(9):
        row = moves[2 * tap] + (rows + (tap // 3 - 1))
        column = moves[2 * tap + 1] + (columns + (tap % 3 - 1))
        # grid_sample's coordinates with align_corners=False, which a map of one pixel allows too.
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
        sampled = functional.grid_sample(maps, grid, align_corners=False)
        total = torch.addcmul(total, sampled, filters[tap])
    if x.is_contiguous(memory_format=torch.channels_last):
        total = total.contiguous(memory_format=torch.channels_last)
    return total
