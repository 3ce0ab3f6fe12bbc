"""Patch and batch size of a network: as much of the image as fits, then as many as fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnmedseg.errors import UserError
from nnmedseg.planners.memory import TrainingMemory

SMALLEST_BATCH = 2  # batch normalisation over one value cannot be trained
LARGEST_SHARE_OF_DATA = 0.05  # of all pixels in one batch, nnU-Net's precaution against overfitting
GIB = 2**30

MeasureMemory = Callable[[tuple[int, int], bool], TrainingMemory]
"""Patch ``(H, W)``, and whether activations are recomputed, to the memory of a step."""


@dataclass(frozen=True)
class PatchPlan:
    """What the planner decided.

    Attributes:
        patch_size: Height and width in pixels.
        batch_size: Images in a batch.
        memory: Predicted memory of a training step in bytes.
        outputs: Supervised outputs of the network.
        checkpointing: Whether activations are recomputed in the backward pass.
        reason: Why this patch and this batch, in a sentence for the plan.
    """

    patch_size: tuple[int, int]
    batch_size: int
    memory: int
    outputs: int
    checkpointing: bool
    reason: str


def choose_patch_and_batch(
    median_shape: tuple[float, float],
    *,
    size_divisor: int,
    min_size: int,
    measure: MeasureMemory,
    target_gib: float,
    pixels_in_dataset: float,
    checkpointed: bool | None = None,
) -> PatchPlan:
    """Choose the largest patch with which two images fit, then the largest batch.

    Args:
        median_shape: Height and width of the median image in pixels.
        size_divisor: The patch's sides are multiples of it.
        min_size: The patch's sides are at least this.
        measure: Measures the training memory for a patch; as `MeasureMemory`.
        target_gib: Memory that a training step may use, in GiB.
        pixels_in_dataset: Pixels of all training images together.
        checkpointed: Whether to recompute activations; ``None`` to do so where it is needed.

    Raises:
        UserError: Not even the smallest patch fits.
    """
    smallest = round_up(min_size, size_divisor)
    patch = [max(smallest, round_up(side, size_divisor)) for side in median_shape]
    target = int(target_gib * GIB)
    whole = measure((patch[0], patch[1]), bool(checkpointed))
    pixels = patch[0] * patch[1]
    memory = whole
    while memory.largest_batch(target) < SMALLEST_BATCH:
        axis = _axis_to_shrink(patch, median_shape, smallest)
        if axis is None:
            raise UserError(
                f"a training step with {SMALLEST_BATCH} patches of {patch[0]}x{patch[1]} needs "
                f"{memory.total(SMALLEST_BATCH) / GIB:.1f} GiB, more than {target_gib:g} GiB",
                where="--gpu-memory",
                mend="give more memory, or choose a smaller network",
            )
        patch[axis] -= size_divisor
        memory = whole.at_scale(patch[0] * patch[1] / pixels)
    covering = round(pixels_in_dataset * LARGEST_SHARE_OF_DATA / (patch[0] * patch[1]))
    batch = max(SMALLEST_BATCH, min(memory.largest_batch(target), covering))
    return PatchPlan(
        (patch[0], patch[1]),
        batch,
        memory.total(batch),
        memory.outputs,
        checkpointing=bool(checkpointed),
        reason="a patch sees the whole median image",
    )


def round_up(size: float, divisor: int) -> int:
    """Return the smallest multiple of ``divisor`` that is at least ``size``."""
    return int(-(-size // divisor)) * divisor


def _axis_to_shrink(
    patch: list[int], median_shape: tuple[float, float], smallest: int
) -> int | None:
    """Return the axis that is longest relative to the image, or ``None`` if none can shrink."""
    shrinkable = [axis for axis in (0, 1) if patch[axis] > smallest]
    return max(shrinkable, key=lambda axis: patch[axis] / median_shape[axis], default=None)
