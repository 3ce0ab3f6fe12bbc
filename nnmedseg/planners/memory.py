"""How much memory a training step of any network needs, measured without a GPU.

nnU-Net estimates memory by a formula that fits its own U-Net only. Here a whole training step
(forward pass, loss, backward pass, optimiser) runs on ``meta`` tensors, which have shapes and types
but no values, and every storage is counted while it lives. The largest sum is the peak that
``torch.cuda.max_memory_allocated`` reports on a GPU, but for what kernels take for themselves.
What differs between devices is simulated: see `_simulated_functions`, `_mixed_precision` and
`nnmedseg.ops._simulated_device`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from nnmedseg.errors import UserError
from nnmedseg.ops._precision import autocast_switched
from nnmedseg.ops._simulated_device import simulated_device
from nnmedseg.planners._live_memory import BATCH, LiveMemory, Moment
from nnmedseg.planners._simulated_functions import SimulatedFunctions
from nnmedseg.planners._simulated_layout import SimulatedLayout
from nnmedseg.planners._workspaces import WORKSPACES

SMALLEST_BATCH = 2
OPTIMIZERS = ("adamw", "sgd")
LARGEST_GRADIENT = 12.0  # nnU-Net's clipping, which needs the norms of all gradients
CONTEXT_BYTES = 600 * 2**20
"""What CUDA takes beside PyTorch's tensors: its context (300 to 500 MiB by GPU and driver), the
workspaces of cuBLAS and cuDNN, and the allocator's slack."""

_Module = TypeVar("_Module", bound=nn.Module)
Loss = Callable[[Any, Tensor], Tensor]
"""From what the network returns in training and the target to a scalar."""


@dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training step.

    Attributes:
        fixed: Bytes that do not depend on the batch: parameters, optimiser state, CUDA context.
        per_sample: Bytes for each image of the batch, at the fullest moment of the step.
        outputs: How many supervised outputs the network has in training.
        other_moments: What other moments of the step need, for batches with which they are the
            fullest.
    """

    fixed: int
    per_sample: int
    outputs: int
    other_moments: tuple[Moment, ...] = field(default=())

    def total(self, batch_size: int) -> int:
        """Return the bytes of a step with ``batch_size`` images."""
        return max(moment.total(batch_size) for moment in self._moments)

    def largest_batch(self, target_bytes: int) -> int:
        """Return the largest batch whose step fits in ``target_bytes`` (0 when none does)."""
        fitting = [
            (target_bytes - moment.fixed) // max(moment.per_sample, 1) for moment in self._moments
        ]
        return max(0, min(fitting))

    def with_context(self) -> TrainingMemory:
        """Return what was measured as on a CPU with what CUDA itself takes added."""
        others = tuple(Moment(m.fixed + CONTEXT_BYTES, m.per_sample) for m in self.other_moments)
        return replace(self, fixed=self.fixed + CONTEXT_BYTES, other_moments=others)

    @property
    def _moments(self) -> tuple[Moment, ...]:
        return Moment(self.fixed, self.per_sample), *self.other_moments


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
        build: Builds the network; called once, or a second time if the first fails on ``meta``.
        input_channels: Channels of the input.
        patch_size: ``(H, W)`` or ``(D, H, W)`` in pixels.
        optimizer: ``"adamw"`` or ``"sgd"``, which keep two numbers and one for each parameter.
        mixed_precision: As on CUDA, under float16 autocast; otherwise as on a CPU in float32.
        loss: From the network's outputs and the target ``(B, 1, *patch_size)`` to a scalar;
            nnU-Net's, summed over all outputs, if ``None``.

    Raises:
        UserError: The step cannot run without values, for instance because the network's path
            depends on them.
    """
    network = build_without_values(build).train()
    step = SimulatedStep(network, optimizer, mixed_precision=mixed_precision, loss=loss)
    image = torch.empty(BATCH, input_channels, *patch_size, device="meta")
    try:
        peaks, outputs = step.run(image)
    except (NotImplementedError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"the memory of a training step cannot be measured ({reason})",
            where=f"{type(network).__name__}, patch {'x'.join(map(str, patch_size))}",
        ) from error
    context = CONTEXT_BYTES if mixed_precision else 0
    moments = [Moment(peak.fixed + context, peak.per_sample) for peak in peaks.values()]
    first, *others = dict.fromkeys(moments)
    return TrainingMemory(first.fixed, first.per_sample, outputs, tuple(others))


def build_without_values(build: Callable[[], _Module]) -> _Module:
    """Build a network on ``meta``, first of all directly, which takes no time for its weights."""
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):  # a constructor that reads values
        return build().to("meta")


class SimulatedStep:
    """A training step as nnU-Net's trainer does it.

    Args:
        network: In training mode, on ``meta`` or, to compare with real tensors, elsewhere.
        optimizer: One of `OPTIMIZERS`.
        mixed_precision: See `measure_training_memory`.
        loss: See `measure_training_memory`.
    """

    def __init__(
        self, network: nn.Module, optimizer: str, *, mixed_precision: bool, loss: Loss | None
    ):
        self.network = network
        self.trained = [x for x in network.parameters() if x.requires_grad]
        self.optimizer = _new_optimizer(optimizer, self.trained, foreach=mixed_precision)
        self.mixed_precision = mixed_precision
        self.loss = loss or sum_over_outputs(nnunet_loss())

    def run(self, image: Tensor) -> tuple[dict[int, Moment], int]:
        """Return the fullest moments by batch size, and the number of outputs."""
        device_type = "cuda" if self.mixed_precision else "cpu"
        functions = SimulatedFunctions(device_type)
        target = image.new_empty(image.shape[0], 1, *image.shape[2:])
        live = LiveMemory(image.shape[0], WORKSPACES[device_type])
        live.add([*self.network.parameters(), *self.network.buffers(), image, target])
        with simulated_device(device_type), functions, SimulatedLayout():
            with live:
                with autocast_switched(enabled=self.mixed_precision):
                    outputs = self.network(image)
                    loss = self.loss(outputs, target)
                functions.autocast.forget_weights()
                loss.backward()
            live.add_from_the_start(_give_state(self.optimizer))
            with live:
                torch.nn.utils.clip_grad_norm_(self.trained, LARGEST_GRADIENT)
                self.optimizer.step()
        return live.peaks, len(outputs) if isinstance(outputs, (list, tuple)) else 1


def nnunet_loss() -> nn.Module:
    """Return the loss that nnU-Net's trainer builds where there are no regions."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


def sum_over_outputs(loss: Loss) -> Loss:
    """Return the sum of a loss over all outputs, each with a target of its size."""

    def total(outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        supervised = [outputs] if isinstance(outputs, Tensor) else outputs
        losses = [loss(x, _target_of_size(target, x.shape[2:])) for x in supervised]
        return torch.stack(losses).sum()

    return total


def _target_of_size(target: Tensor, size: Sequence[int]) -> Tensor:
    if target.shape[2:] == size:
        return target
    return target.new_zeros(*target.shape[:2], *size)  # as the data loader hands it over


def _new_optimizer(
    name: str, trained: Sequence[nn.Parameter], *, foreach: bool
) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(trained, foreach=foreach)
    if name == "sgd":
        return torch.optim.SGD(
            trained, lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5, foreach=foreach
        )
    raise UserError(
        f"the memory of the optimiser {name!r} is not known",
        mend=f"choose one of {', '.join(OPTIMIZERS)}",
    )


def _give_state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Give an optimiser the state that its first step makes, and return its tensors.

    There is none for parameters that the loss does not depend on.
    """
    adamw = isinstance(optimizer, torch.optim.AdamW)
    tensors: list[Tensor] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                keys = ["exp_avg", "exp_avg_sq"] if adamw else ["momentum_buffer"]
                state = {key: torch.empty_like(parameter) for key in keys}
                tensors += state.values()
                optimizer.state[parameter] = state | ({"step": torch.zeros(())} if adamw else {})
    return tensors
