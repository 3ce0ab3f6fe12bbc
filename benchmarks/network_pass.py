"""One pass of a network in a process of its own, for ``networks.py`` and ``scaling.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from memory import MEBIBYTE, memory, release
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from operator_shares import profiled
from timing import clock_name, median_ratio, median_seconds, synchronise, take_turns
from torch import Tensor, nn

from nnmedseg.networks import create_network
from nnmedseg.networks._base import SegmentationNetwork
from nnmedseg.networks.layers.gates import ChannelGate

PEER = "PlainConvUNet"
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
        planned_side: The patch that the U-Net is planned for, if not of the image's size.
        options: Options of the network that differ from the default ones.
    """

    network: str
    side: int = 256
    channels: int = 3
    classes: int = 2
    training_batch: int = 2
    planned_side: int | None = None
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
class Task:
    """What a process measures.

    Attributes:
        case: Network and input.
        training: Whether the pass is a training step.
        device: Name of the device.
        threads: Threads of PyTorch.
        repeats: Counted turns.
        alone: Whether to leave out the peer and the profiler.
    """

    case: Case
    training: bool
    device: str
    threads: int
    repeats: int
    alone: bool = False


@dataclass(frozen=True)
class Measurement:
    """What a process found.

    Attributes:
        milliseconds: Median of a pass.
        ratio: Median of how many times as long as the peer's it took, turn by turn.
        mebibytes: Rise to the peak; ``None`` where the device tells none.
        operators: The three largest operators, with their shares.
        shares: The share of each kind of operator.
    """

    milliseconds: float
    ratio: float
    mebibytes: float | None
    operators: str
    shares: dict[str, float]


def plain_conv_unet(case: Case, training: bool) -> nn.Module:
    """The U-Net that nnU-Net's planner builds for a patch of this size and isotropic spacing."""
    patch = (case.planned_side or case.side,) * 2
    _, strides, kernels, _, _ = get_pool_and_conv_props((1.0, 1.0), patch, 4, 99)
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
    if not training and isinstance(network, SegmentationNetwork):
        network = network.fuse()  # as prediction does
    batch = case.training_batch if training else 1
    if batch == 1:
        for module in network.modules():
            if isinstance(module, ChannelGate):  # one value a channel, which cannot be normalised
                module.eval()
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


def measure(task: Task) -> Measurement:
    """Measure one pass of one network in this process."""
    case, device = task.case, torch.device(task.device)
    run, rise = warmed_up_pass(case, device, task.training)
    passes = {"ours": run}
    if not task.alone and case.network != PEER:
        passes["peer"] = new_pass(case.peer, device, task.training)
        passes["peer"]()
    clock = getattr(time, clock_name(task.device, task.threads))
    turns = take_turns(passes, clock, turns=task.repeats, warm_up=False)
    shares, operators = ({}, "") if task.alone else profiled(run, device)
    return Measurement(
        milliseconds=1e3 * median_seconds(turns, "ours"),
        ratio=median_ratio(turns, "ours", [*passes][-1]),
        mebibytes=rise,
        operators=operators,
        shares=shares,
    )


def in_own_process(task: Task, budget: float) -> Measurement | str:
    """Measure in a fresh process; what to print instead when it fails or takes too long.

    Args:
        task: What to measure.
        budget: Seconds after which the process is ended.
    """
    threads = {name: str(task.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    try:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(asdict(task))],
            env=os.environ | threads,
            capture_output=True,
            text=True,
            timeout=budget,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"over {budget:g} s"
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return f"failed: {reason[0]}"
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure what the argument asks for, and answer in the last line of the output."""
    given = json.loads(sys.argv[1])
    task = Task(**given | {"case": Case(**given["case"])})
    torch.manual_seed(0)
    torch.set_num_threads(task.threads)
    print(json.dumps(asdict(measure(task))))


if __name__ == "__main__":
    main()
