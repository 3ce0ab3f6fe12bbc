"""The gradient of depthwise filters for CPUs, compiled by numba: see `_depthwise_kernels`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.ops import _depthwise_kernels as kernels
from nnmedseg.ops._simd import LANES
from nnmedseg.ops._threads import run_in_threads

SMALLEST_PART = 2**20
"""Multiplications below which a second thread costs more than it saves."""


def filter_gradient(x: Tensor, grad_out: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the filters ``(C, 1, rows, columns)``.

    Args:
        x: Maps ``(B, C, H, W)`` in float32, best in channels_last.
        grad_out: The gradient of the convolution's output, likewise.
        weight: Filters of stride 1, padded so that the size stays; only their shape is read.
    """
    channels, _, rows, columns = weight.shape
    pixels, incoming = _pixels(x), _pixels(grad_out)
    batch, height, width, padded = pixels.shape
    sizes = kernels.Sizes(height, width, padded, rows, columns)
    parts = _parts(batch, sizes)
    gradient = torch.zeros(len(parts), rows, columns, padded, dtype=torch.float32)
    flat = [tensor.detach().view(-1).numpy() for tensor in (pixels, incoming, gradient)]
    taps = (0,) * columns

    def run(part: kernels.Part) -> None:
        # PyTorch's memory starts at a multiple of 64 bytes, which vectors are loaded from fastest.
        row, sums = (torch.empty(n * LANES).numpy() for n in (width + columns - 1, columns))
        kernels.filter_gradient(part, sizes, flat[0], flat[1], row, sums, flat[2], taps)

    run_in_threads(run, parts)
    return gradient.sum(0)[..., :channels].permute(2, 0, 1).unsqueeze(1).contiguous()


def _pixels(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` as dense ``(B, H, W, C)``, C padded with zeros to a multiple of 16."""
    missing = -maps.shape[1] % LANES
    pixels = maps.permute(0, 2, 3, 1)
    return (functional.pad(pixels, (0, missing)) if missing else pixels).contiguous()


def _parts(batch: int, sizes: kernels.Sizes) -> list[kernels.Part]:
    """Cut each sample's rows so that there are as many tasks as threads."""
    work = batch * sizes.height * sizes.width * sizes.channels * sizes.rows * sizes.columns
    threads = min(torch.get_num_threads(), max(1, work // SMALLEST_PART))
    cuts = min(-(-threads // batch), sizes.height)
    edges = [sizes.height * cut // cuts for cut in range(cuts + 1)]
    return [
        kernels.Part(sample, edges[cut], edges[cut + 1], sample * cuts + cut)
        for sample in range(batch)
        for cut in range(cuts)
    ]
