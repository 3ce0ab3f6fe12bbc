"""Predicted and measured memory of training steps, for ``planning.py``."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from network_pass import PEER, plain_conv_unet
from network_pass import Case as PassCase
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.networks.layers.layout import lay_out_weights
from nnmedseg.ops._simulated_device import simulated_device
from nnmedseg.planners._live_memory import LiveMemory
from nnmedseg.planners._simulated_functions import SimulatedFunctions
from nnmedseg.planners._simulated_layout import SimulatedLayout
from nnmedseg.planners.memory import (
    CONTEXT_BYTES,
    LARGEST_GRADIENT,
    measure_training_memory,
    nnunet_loss,
    sum_over_outputs,
)

FOREIGN = "timm ConvNeXt"
BATCH, CHANNELS, CLASSES = 2, 3, 2

Patch = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A network and the options that differ from its defaults."""

    network: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and options."""
        return ", ".join([self.network, *(f"{k}={v}" for k, v in self.options.items())])

    def build(self, patch: Patch) -> nn.Module:
        """The network in training mode, as a trainer has it."""
        if self.network == PEER:
            return plain_conv_unet(PassCase(PEER, side=min(patch)), training=True)
        if self.network == FOREIGN:
            return ConvNeXtSegmenter()
        network = PlannedNetwork(CHANNELS, CLASSES, network=self.network, **self.options)
        network.auxiliary_in_training = True
        return network.train()


class ConvNeXtSegmenter(nn.Module):
    """A network that the project does not have: timm's encoder, its maps joined and projected."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model("convnext_atto", features_only=True)
        self.project = nn.Conv2d(sum(self.encoder.feature_info.channels()), CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to logits ``(B, 2, H, W)``."""
        first, *others = self.encoder(image)
        size = first.shape[2:]
        maps = [first, *(functional.interpolate(x, size, mode="bilinear") for x in others)]
        return functional.interpolate(self.project(torch.cat(maps, 1)), image.shape[2:])


class Step:
    """A real training step, written as nnU-Net's trainer has it."""

    def __init__(self, case: Case, patch: Patch, device: str):
        self.network = case.build(patch).to(device)
        self.device = device
        lay_out_weights(self.network, torch.device(device))
        self.trained = [x for x in self.network.parameters() if x.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained)
        self.loss = sum_over_outputs(nnunet_loss())
        self.scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
        self.image = torch.randn(BATCH, CHANNELS, *patch, device=device)
        self.target = torch.randint(CLASSES, (BATCH, 1, *patch), device=device).float()
        self()  # the optimiser's state exists from the first step on
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(self) -> None:
        """Run it."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, enabled=self.device == "cuda"):
            outputs = self.network(self.image)
            loss = self.loss(outputs, self.target)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.trained, LARGEST_GRADIENT)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def tensors(self) -> list[Any]:
        """Those that live from step to step."""
        state = [x for values in self.optimizer.state.values() for x in values.values()]
        own = [*self.network.parameters(), *self.network.buffers()]
        return [*own, *state, self.image, self.target]


def predicted_bytes(case: Case, patch: Patch, *, mixed_precision: bool) -> int:
    """The peak of a step, without what CUDA takes beside PyTorch's tensors."""
    memory = measure_training_memory(
        lambda: case.build(patch), CHANNELS, patch, mixed_precision=mixed_precision
    )
    return memory.total(BATCH) - (CONTEXT_BYTES if mixed_precision else 0)


def predicted_saved_bytes(case: Case, patch: Patch) -> int:
    """What a forward pass on a CPU keeps for backward, without values."""
    with torch.device("meta"):
        network = case.build(patch)
    image = torch.empty(BATCH, CHANNELS, *patch, device="meta")
    with simulated_device("cpu"), SimulatedFunctions("cpu"), SimulatedLayout():
        return _saved_bytes(network, image)


def measured_saved_bytes(step: Step) -> int:
    """The same of a real pass."""
    return _saved_bytes(step.network, step.image)


def _saved_bytes(network: nn.Module, image: Tensor) -> int:
    own = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    size = sum(storage.nbytes() for storage in kept.values())
    del outputs
    return size


def live_bytes(step: Step) -> int:
    """The most bytes of tensors that are alive at once in a real step."""
    live = LiveMemory(batch=1)
    live.add(step.tensors())
    with live:
        step()
    step.optimizer.zero_grad(set_to_none=True)
    peak = live.peaks[BATCH]
    return peak.fixed + peak.per_sample


def allocated_bytes(step: Step) -> int:
    """The most bytes that PyTorch's allocator has given out on a CPU, by its profiler."""
    there = LiveMemory(batch=1)
    there.add(step.tensors())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    step.optimizer.zero_grad(set_to_none=True)
    events = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    now = peak = 0
    for _, size in sorted(events):
        now += size
        peak = max(peak, now)
    return peak + there.live.fixed + there.live.per_sample


def allocated_on_cuda(case: Case, patch: Patch) -> int:
    """`torch.cuda.max_memory_allocated` of a real step in mixed precision."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    step = Step(case, patch, "cuda")
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def attempted(measure: Callable[..., int], *given: Any) -> int | str:
    """What a measurement finds, or why it failed, so that the others go on."""
    try:
        return measure(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:60]
    finally:
        gc.collect()
