"""Times of our operations against a peer's, in one process, interleaved, as medians.

The peer is the sequential scan, torchvision's deformable convolution, and PyTorch's depthwise
convolution in NCHW. Each line is forward and backward on a CPU: ours, the peer's, and how many
times faster ours is. Run ``python benchmarks/kernels.py``; use an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nnmedseg.networks import create_network
from nnmedseg.ops import deformable_depthwise_conv, depthwise_conv, selective_scan


def sequential_scan(u: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The definition of the scan, one token after another."""
    state = u.new_zeros(u.shape[0], *rates.shape)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * rates)
        state = decay * state + (dt[:, t] * u[:, t])[..., None] * b[:, t, None]
        outputs.append((state * c[:, t, None]).sum(-1))
    return torch.stack(outputs, dim=1)


def step_seconds(operation: Callable[..., Tensor], inputs: Sequence[Tensor]) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    out = operation(*inputs)
    torch.autograd.grad(out, [x for x in inputs if x.requires_grad], torch.ones_like(out))
    return time.perf_counter() - start


def compare(
    title: str,
    ours: tuple[Callable[..., Tensor], Sequence[Tensor]],
    peer: tuple[Callable[..., Tensor], Sequence[Tensor]],
    repeats: int,
) -> None:
    """Print the medians of both, measured in turns after one run that is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for times, (operation, inputs) in zip(seconds, (ours, peer), strict=True):
            taken = step_seconds(operation, inputs)
            if repeat:
                times.append(taken)
    mine, other = (statistics.median(times) * 1e3 for times in seconds)
    print(f"{title:<48} {mine:10.1f} ms {other:10.1f} ms {other / mine:7.1f} x", flush=True)


def scans(repeats: int) -> None:
    """The selective scan at lengths for which the sequential one still ends."""
    for batch, length, channels in ((2, 1024, 8), (2, 4096, 8), (24, 2304, 16)):
        tokens = (batch, length)
        inputs = [
            torch.randn(*tokens, channels),
            torch.rand(*tokens, channels) * 0.1,
            -torch.arange(1.0, 17.0).repeat(channels, 1),
            torch.randn(*tokens, 16),
            torch.randn(*tokens, 16),
        ]
        inputs = [x.requires_grad_() for x in inputs]
        title = f"selective scan, batch {batch}, {length} tokens, {channels} channels"
        compare(title, (selective_scan, inputs), (sequential_scan, inputs), repeats)


def deformable(repeats: int) -> None:
    """The deformable convolution against torchvision's."""
    from torchvision.ops import deform_conv2d  # noqa: PLC0415 - the rest runs without it

    for batch, channels, side in ((2, 16, 256), (6, 16, 96), (6, 48, 24)):
        x = torch.randn(batch, channels, side, side, requires_grad=True)
        offset = torch.randn(batch, 18, side, side, requires_grad=True)
        weight = torch.randn(channels, 1, 3, 3, requires_grad=True)
        inputs = (x, offset, weight)
        title = f"deformable 3x3, {batch} x {channels} x {side} x {side}"
        peer = (lambda x, o, w: deform_conv2d(x, o, w, padding=1), inputs)
        compare(title, (deformable_depthwise_conv, inputs), peer, repeats)


def depthwise(repeats: int) -> None:
    """Wide depthwise convolutions in channels_last against PyTorch's in NCHW."""

    def native(x: Tensor, weight: Tensor) -> Tensor:
        padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        return functional.conv2d(x, weight, padding=padding, groups=x.shape[1])

    for kernel in ((15, 15), (11, 11), (7, 7), (1, 15)):
        for batch, side in ((2, 256), (6, 96)):
            x = torch.randn(batch, 16, side, side, requires_grad=True)
            last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(16, 1, *kernel, requires_grad=True)
            title = f"depthwise {kernel[0]}x{kernel[1]}, {batch} x 16 x {side} x {side}"
            compare(title, (depthwise_conv, (last, weight)), (native, (x, weight)), repeats)


def networks(repeats: int) -> None:
    """RoSPER-Net's training step, without a peer."""
    for batch, side in ((6, 96), (2, 256)):
        network = create_network("rosper", 3, 2).to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        image = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            optimiser.zero_grad()
            torch.stack([x.square().mean() for x in network(image)]).sum().backward()
            optimiser.step()
            times.append(time.perf_counter() - start)
        title = f"RoSPER-Net training step, {batch} x 3 x {side} x {side}"
        print(f"{title:<48} {statistics.median(times[1:]) * 1e3:10.1f} ms", flush=True)


def main() -> None:
    """Measure what the arguments ask for."""
    parts = {f.__name__: f for f in (scans, deformable, depthwise, networks)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(parts), help="measure one part only")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each operation")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    print(f"{'':<48} {'ours':>13} {'peer':>13} {'ratio':>9}   ({arguments.threads} threads)")
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(arguments.repeats)


if __name__ == "__main__":
    main()
