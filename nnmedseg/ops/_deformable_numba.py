"""The deformable depthwise convolution for CPUs, compiled by numba: see `_deformable_kernels`.

It is the operator ``nnmedseg::deformable_depthwise_numba`` with one more for its gradients. Maps
are read and written in channels_last; others are copied. Results do not depend on the number of
threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional

from nnmedseg.ops import _deformable_kernels as kernels
from nnmedseg.ops._deformable_kernels import Given, Gradients, Part
from nnmedseg.ops._deformable_sampling import check_shapes
from nnmedseg.ops._deformable_strips import TAPS, Offsets, Sizes
from nnmedseg.ops._simd import LANES
from nnmedseg.ops._threads import run_in_threads
from nnmedseg.ops.flops import register_deformable_formulas

SMALLEST_PART = 2**18
"""Values times taps below which a second thread costs more than it saves."""


@custom_op("nnmedseg::deformable_depthwise_numba", mutates_args=())
def convolve(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The convolution in float32; arguments and result as `deformable_depthwise_conv`.

    Raises:
        ValueError: Shapes do not belong together, or a tensor is not float32 on a CPU.
    """
    sizes, given = _given(x, offset, weight)
    out = x.new_empty(x.shape[0], sizes.height, sizes.width, sizes.channels)
    _run(
        _tasks(_parts_of_output(x.shape[0], sizes)),
        lambda part: kernels.forward(part, sizes, given, _flat(out)),
    )
    return _maps(out, x)


@custom_op("nnmedseg::deformable_depthwise_numba_backward", mutates_args=())
def convolve_backward(
    grad_out: Tensor, x: Tensor, offset: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, offset and weight."""
    sizes, given = _given(x, offset, weight)
    batch, channels = x.shape[:2]
    parts = _parts_of_gradients(batch, sizes)
    columns = sorted({part.first_channel for part in parts})
    grad_x = x.new_zeros(batch, sizes.height, sizes.width, sizes.channels)
    grad_offsets = [torch.empty_like(offset) for _ in columns]
    grad_weight = torch.zeros(batch, TAPS, sizes.channels, dtype=torch.float64)
    incoming = _flat(_pixels(grad_out))

    def run(part: Part) -> None:
        grad_offset = grad_offsets[columns.index(part.first_channel)]
        into = Gradients(_flat(grad_x), _offsets(grad_offset), _flat(grad_weight))
        kernels.backward(part, sizes, given, incoming, into)

    _run(_tasks(parts), run)
    for more in grad_offsets[1:]:
        grad_offsets[0] += more
    filters = grad_weight.sum(0)[:, :channels].t().float().contiguous()
    return _maps(grad_x, x), grad_offsets[0], filters.view(weight.shape)


@convolve.register_fake
def _(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=_layout(x))


@convolve_backward.register_fake
def _(grad_out: Tensor, x: Tensor, offset: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty_like(x, memory_format=_layout(x))
    return grad_x, torch.empty_like(offset), weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return convolve_backward(grad_out, *ctx.saved_tensors)


convolve.register_autograd(_gradients, setup_context=_setup_context)
register_deformable_formulas("numba")


def _given(x: Tensor, offset: Tensor, weight: Tensor) -> tuple[Sizes, Given]:
    check_shapes(x, offset, weight)
    for tensor in (x, offset, weight):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"{tensor.dtype} on {tensor.device}, not float32 on a CPU")
    channels, height, width = x.shape[1:]
    padded = _padded(channels)
    filters = functional.pad(weight.reshape(channels, TAPS).t(), (0, padded - channels))
    given = Given(_flat(_pixels(x)), _offsets(offset), _flat(filters.contiguous()))
    return Sizes(height, width, padded), given


def _padded(channels: int) -> int:
    return -(-channels // LANES) * LANES


def _pixels(maps: Tensor) -> Tensor:
    """Maps ``(B, H, W, C padded with zeros to a multiple of 16)``, a copy only if need be."""
    missing = _padded(maps.shape[1]) - maps.shape[1]
    pixels = maps.permute(0, 2, 3, 1)
    return (functional.pad(pixels, (0, missing)) if missing else pixels).contiguous()


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _maps(pixels: Tensor, x: Tensor) -> Tensor:
    """The other way round, laid out as `x`."""
    maps = pixels.permute(0, 3, 1, 2)
    layout = _layout(x)
    if maps.shape == x.shape and layout == torch.channels_last:
        return maps
    return maps[:, : x.shape[1]].clone(memory_format=layout)


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().view(-1).numpy()


def _offsets(offset: Tensor) -> Offsets:
    """Offsets without a copy, however they lie."""
    steps = zip(offset.shape, offset.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in steps) if offset.numel() else 0
    data = offset.detach().as_strided((span,), (1,)).numpy()
    return Offsets(data, *offset.stride())


def _run(tasks: Sequence[Sequence[Part]], kernel: Callable[[Part], None]) -> None:
    """Run the parts of each task one after another, and the tasks beside one another."""

    def run(parts: Sequence[Part]) -> None:
        for part in parts:
            kernel(part)

    run_in_threads(run, tasks)


def _tasks(parts: Sequence[Part]) -> list[Sequence[Part]]:
    """Divide parts of equal size among PyTorch's threads."""
    return [parts[start:end] for start, end in _cuts(len(parts), torch.get_num_threads())]


def _threads(batch: int, sizes: Sizes) -> int:
    work = batch * math.prod(sizes) * TAPS
    return min(torch.get_num_threads(), max(1, work // SMALLEST_PART))


def _parts_of_output(batch: int, sizes: Sizes) -> list[Part]:
    """As many parts as threads, or somewhat more: of the samples, and if need be of the pixels."""
    threads, pixels = _threads(batch, sizes), sizes.height * sizes.width
    strips = _cuts(-(-pixels // LANES), math.ceil(threads / max(batch, 1)))
    return [
        Part(*samples, start * LANES, min(end * LANES, pixels), 0, sizes.channels)
        for samples in _cuts(batch, threads)
        for start, end in strips
    ]


def _parts_of_gradients(batch: int, sizes: Sizes) -> list[Part]:
    """Parts of the samples; if they are too few, one a sample and 16 channels.

    So no two parts add to the same number, and those of one sample's offsets are added up in the
    same order in either case.
    """
    threads, pixels = _threads(batch, sizes), sizes.height * sizes.width
    if threads <= batch or sizes.channels == LANES:
        return [Part(*samples, 0, pixels, 0, sizes.channels) for samples in _cuts(batch, threads)]
    return [
        Part(sample, sample + 1, 0, pixels, channel, channel + LANES)
        for sample in range(batch)
        for channel in range(0, sizes.channels, LANES)
    ]


def _cuts(count: int, pieces: int) -> list[tuple[int, int]]:
    """``[0, count)`` in at most so many pieces, at least one, that differ by one at most."""
    pieces = max(1, min(pieces, count))
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return list(itertools.pairwise(edges))
