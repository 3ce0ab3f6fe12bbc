"""How much memory a training step of any network needs, measured without a GPU.

nnU-Net estimates memory by a formula that fits its own U-Net only. Here the forward pass runs on
tensors that have shapes and types but no values, and every storage that autograd keeps for the
backward pass is counted once. Where PyTorch is built for CUDA these are fake CUDA tensors under the
float16 autocast in which nnU-Net trains there (a GPU need not be present); elsewhere ``meta``
tensors in float32, in which it trains on other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

OPTIMIZER_BYTES = {"adamw": 8, "sgd": 4}  # of each trained parameter: float32 moments, momentum
BYTES_OF_FROZEN_PARAMETER = 4
# A build without CUDA aborts on fake CUDA tensors.
BUILT_FOR_CUDA = torch.backends.cuda.is_built()
SAMPLES = 2  # batch normalisation over one value cannot be trained
CONTEXT_BYTES = 600 * 2**20  # CUDA context, cuDNN workspaces and the allocator's slack


Loss = Callable[[Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training step.

    Attributes:
        fixed: Bytes that do not depend on the batch: parameters, optimiser state, CUDA context.
        per_sample: Bytes that autograd keeps for each image of the batch.
        outputs: How many supervised outputs the network has in training.
    """

    fixed: int
    per_sample: int
    outputs: int

    def total(self, batch_size: int) -> int:
        """Return the bytes of a step with ``batch_size`` images."""
        return self.fixed + batch_size * self.per_sample

    def largest_batch(self, target_bytes: int) -> int:
        """Return the largest batch whose step fits in ``target_bytes`` (0 when none does)."""
        return max(0, (target_bytes - self.fixed) // self.per_sample)

    def at_scale(self, pixels: float) -> TrainingMemory:
        """Return the memory for patches of ``pixels`` times as many pixels: it grows with them."""
        return replace(self, per_sample=round(self.per_sample * pixels))


def measure_training_memory(
    build: Callable[[], nn.Module],
    input_channels: int,
    patch_size: Sequence[int],
    *,
    optimizer: str = "adamw",
    mixed_precision: bool = True,
    loss: Loss | None = None,
) -> TrainingMemory:
    """Measure the memory of a training step of a network.

    Args:
        build: Builds the network; called once, on tensors without values.
        input_channels: Channels of the input.
        patch_size: ``(H, W)`` or ``(D, H, W)`` in pixels.
        optimizer: ``"adamw"`` or ``"sgd"``, which keep two numbers and one for each parameter.
        mixed_precision: Under float16 autocast, as on CUDA.
        loss: From the network's outputs and the target ``(B, 1, *patch_size)`` to a scalar;
            nnU-Net's over every output if ``None``.
    """
    without_values = FakeTensorMode() if BUILT_FOR_CUDA else nullcontext()
    with without_values, torch.device("cuda" if BUILT_FOR_CUDA else "meta"):
        network = build().train()
        image = torch.empty(SAMPLES, input_channels, *patch_size)
        with _autocast(enabled=mixed_precision and BUILT_FOR_CUDA):
            kept, outputs = _saved_bytes(network, image)
    return TrainingMemory(
        fixed=parameter_bytes(network, optimizer) + CONTEXT_BYTES,
        per_sample=kept // SAMPLES,
        outputs=outputs,
    )


def parameter_bytes(network: nn.Module, optimizer: str) -> int:
    """Return the bytes of parameters, their gradients and the optimiser's state."""
    trained = 8 + OPTIMIZER_BYTES[optimizer]
    return sum(
        parameter.numel() * (trained if parameter.requires_grad else BYTES_OF_FROZEN_PARAMETER)
        for parameter in network.parameters()
    )


def _saved_bytes(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Return the bytes kept for backward by a forward pass, and the number of outputs."""
    own = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    count = len(outputs) if isinstance(outputs, list) else 1
    return sum(storage.nbytes() for storage in kept.values()), count


def _storage(tensor: torch.Tensor) -> int:
    # Tensors without values have no addresses, so a storage is known by that of its object.
    return tensor.untyped_storage()._cdata


@contextmanager
def _autocast(*, enabled: bool) -> Iterator[None]:
    """Switch CUDA's autocast on; ``torch.autocast`` refuses to where there is no GPU."""
    before = torch.is_autocast_enabled()
    torch.set_autocast_enabled(enabled)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(before)
