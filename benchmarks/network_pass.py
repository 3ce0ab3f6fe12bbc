"""One pass of one network in a process of its own: what ``networks.py`` starts for each cell."""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from nnmedseg.networks import create_network

PEER = "PlainConvUNet"
MEBIBYTE = 2**20
WARM_UP_SIDE = 64


@dataclass(frozen=True)
class Case:
    """A network and its input.

    Attributes:
        network: Registered name, or that of nnU-Net's U-Net.
        side: Height and width of the image.
        channels: Channels of the image.
        classes: Channels of the logits.
        training_batch: Images in a training step.
        options: Options of the network that differ from the default ones.
    """

    network: str
    side: int = 256
    channels: int = 3
    classes: int = 2
    training_batch: int = 2
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and options."""
        options = ", ".join(str(value) for value in self.options.values())
        return f"{self.network} ({options})" if options else self.network

    @property
    def input(self) -> str:
        """Shape, classes and batch sizes."""
        shape = f"{self.channels} x {self.side} x {self.side}"
        return f"{shape}, {self.classes} classes, 1 / {self.training_batch}"

    @property
    def peer(self) -> Case:
        """nnU-Net's U-Net on the same input."""
        return replace(self, network=PEER, options={})


@dataclass(frozen=True)
class Measurement:
    """What a process found.

    Attributes:
        milliseconds: Median of a pass.
        ratio: Median of how many times as long as the peer's it took, turn by turn.
        mebibytes: Rise to the peak; ``None`` where the device tells none.
        operators: The three largest operators in training, with their shares.
    """

    milliseconds: float
    ratio: float
    mebibytes: float | None
    operators: str


def plain_conv_unet(case: Case, training: bool) -> nn.Module:
    """The U-Net that nnU-Net's planner builds for a patch of this size and isotropic spacing."""
    _, strides, kernels, _, _ = get_pool_and_conv_props((1.0, 1.0), (case.side, case.side), 4, 99)
    stages = len(strides)
    return PlainConvUNet(
        input_channels=case.channels,
        n_stages=stages,
        features_per_stage=[min(512, 32 * 2**stage) for stage in range(stages)],
        conv_op=nn.Conv2d,
        kernel_sizes=kernels,
        strides=strides,
        n_conv_per_stage=[2] * stages,
        num_classes=case.classes,
        n_conv_per_stage_decoder=[2] * (stages - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=training,
    )


def build(case: Case, training: bool) -> nn.Module:
    """The network of the case, with deep supervision in training only."""
    if case.network == PEER:
        return plain_conv_unet(case, training)
    return create_network(
        case.network, case.channels, case.classes, deep_supervision=training, **case.options
    )


def new_pass(case: Case, device: torch.device, training: bool) -> Callable[[], None]:
    """Build network and image, and return what runs one pass to its end."""
    network = build(case, training).to(device).train(training)
    batch = case.training_batch if training else 1
    image = torch.randn(batch, case.channels, case.side, case.side).to(device)

    def forward() -> None:
        with torch.no_grad():
            network(image)
        synchronise(device)

    if not training:
        return forward
    trained = [x for x in network.parameters() if x.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        output = network(image)
        maps: Sequence[Tensor] = [output] if isinstance(output, Tensor) else output
        torch.stack([x.square().mean() for x in maps]).sum().backward()
        optimiser.step()
        synchronise(device)

    return step


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def memory(device: torch.device) -> tuple[int, int] | None:
    """Bytes in use now and at most so far, of the device or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    if device.type != "cpu":
        return None
    if sys.platform == "linux":  # there ru_maxrss starts at the peak of the parent process
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        return tuple(int(sizes[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    if sys.platform == "darwin":
        import resource  # noqa: PLC0415 - not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak, peak
    return None


def release(device: torch.device) -> None:
    """Hand back what was freed, and forget the peak of a device that can."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps freed blocks
        if trim:
            trim(0)


def warmed_up_pass(
    case: Case, device: torch.device, training: bool
) -> tuple[Callable[[], None], float | None]:
    """A pass that has run, and by how many MiB building and running it raised the memory.

    A small image goes first, since libraries load parts of themselves when they are first used. A
    training step runs twice, since the optimiser's state exists after the first one only.
    """
    new_pass(replace(case, side=min(case.side, WARM_UP_SIDE)), device, training)()
    release(device)
    before = memory(device)
    run = new_pass(case, device, training)
    for _ in range(2 if training else 1):
        run()
    after = memory(device)
    rise = (after[1] - before[0]) / MEBIBYTE if before and after else None
    return run, rise


def largest_operators(run: Callable[[], None], device: torch.device) -> str:
    """The three operators with the largest share of a pass, by the device's own time in them."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda
    with profile(activities=activities) as profiler:
        run()
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:  # operators; kernels are counted in theirs
            own = event.self_device_time_total if on_cuda else event.self_cpu_time_total
            times[event.key] = times.get(event.key, 0.0) + own
    total = sum(times.values())
    largest = sorted(times, key=lambda name: times[name], reverse=True)[:3]
    return ", ".join(f"{name.removeprefix('aten::')} {times[name] / total:.0%}" for name in largest)


def measure(
    case: Case, device: torch.device, training: bool, repeats: int, clock: Callable[[], float]
) -> Measurement:
    """Measure one pass of one network in this process."""
    run, rise = warmed_up_pass(case, device, training)
    passes = [run]
    if case.network != PEER:
        passes.append(new_pass(case.peer, device, training))
        passes[1]()
    turns = []
    for _ in range(repeats):
        turn = []
        for one in passes:
            start = clock()
            one()
            turn.append(clock() - start)
        turns.append(turn)
    return Measurement(
        milliseconds=1e3 * statistics.median(turn[0] for turn in turns),
        ratio=statistics.median(turn[0] / turn[-1] for turn in turns),
        mebibytes=rise,
        operators=largest_operators(run, device) if training else "",
    )


def main() -> None:
    """Measure what the argument asks for, and answer in the last line of the output."""
    task = json.loads(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(task["threads"])
    result = measure(
        Case(**task["case"]),
        torch.device(task["device"]),
        task["training"],
        task["repeats"],
        getattr(time, task["clock"]),
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
