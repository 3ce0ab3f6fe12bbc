"""How much memory a training step of any network needs, measured without computing anything.

nnU-Net estimates memory by a formula that fits its own U-Net only. Here the forward pass runs on
the ``meta`` device, where tensors have shapes but no values, and every storage that autograd keeps
for the backward pass is counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

BYTES_OF_TRAINED_PARAMETER = 16  # float32 weight, gradient and AdamW's two moments
BYTES_OF_FROZEN_PARAMETER = 4
CONTEXT_BYTES = 600 * 2**20  # CUDA context, cuDNN workspaces and the allocator's slack


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


def measure_training_memory(
    build: Callable[[], nn.Module], input_channels: int, patch_size: tuple[int, int]
) -> TrainingMemory:
    """Measure the training memory of a network for patches ``(H, W)``, in float32.

    Two batch sizes are run, so that what does not grow with the batch is not multiplied by it.

    Args:
        build: Builds the network; called once, under the ``meta`` device.
        input_channels: Channels of the input.
        patch_size: Height and width in pixels.
    """
    with torch.device("meta"):
        network = build()
    network.train()
    two, outputs = _saved_bytes(network, (2, input_channels, *patch_size))
    four, _ = _saved_bytes(network, (4, input_channels, *patch_size))
    per_sample = (four - two) // 2
    return TrainingMemory(
        fixed=parameter_bytes(network) + (two - 2 * per_sample) + CONTEXT_BYTES,
        per_sample=per_sample,
        outputs=outputs,
    )


def parameter_bytes(network: nn.Module) -> int:
    """Return the bytes of parameters, their gradients and AdamW's state."""
    return sum(
        parameter.numel()
        * (BYTES_OF_TRAINED_PARAMETER if parameter.requires_grad else BYTES_OF_FROZEN_PARAMETER)
        for parameter in network.parameters()
    )


def _saved_bytes(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the bytes kept for backward by a forward pass, and the number of outputs."""
    own = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    image = torch.empty(shape, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    count = len(outputs) if isinstance(outputs, list) else 1
    return sum(storage.nbytes() for storage in kept.values()), count


def _storage(tensor: torch.Tensor) -> int:
    # On ``meta`` all data pointers are zero, so a storage is known by its object's address.
    return tensor.untyped_storage()._cdata
