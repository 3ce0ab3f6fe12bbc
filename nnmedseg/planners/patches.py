"""Patch and batch size of a network: as much of the image as fits, then as many as fit.

What is tried one after another, until two patches fit:

1. the whole median image;
2. smaller patches, down to half of the image's height and width, or to 512 pixels if that is less:
   a patch should not see the corner of a lesion only;
3. activation checkpointing, which takes less memory and more time, with patches from the whole
   image down to the smallest that the network takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nnmedseg.errors import UserError
from nnmedseg.planners._patch_search import Patch, largest_that_fits, patches_of, round_up
from nnmedseg.planners.memory import SMALLEST_BATCH, TrainingMemory

LARGEST_SHARE_OF_DATA = 0.05  # of all pixels in one batch, nnU-Net's precaution against overfitting
SEEN_SHARE = 0.5  # of the image's height and width, in a patch without checkpointing
SEEN_PIXELS = 512  # which are enough whatever the image's size
GIB = 2**30

MeasureMemory = Callable[[Patch, bool], TrainingMemory]
"""Patch ``(H, W)``, and whether activations are recomputed, to the memory of a step."""


@dataclass(frozen=True)
class PatchPlan:
    """What the planner decided.

    Attributes:
        patch_size: Height and width in pixels.
        batch_size: Images in a batch.
        memory: Predicted memory of a training step in bytes, measured for this patch.
        outputs: Supervised outputs of the network.
        checkpointing: Whether blocks are computed again in the backward pass.
        reason: Why this patch and this batch, in a sentence for the plan.
    """

    patch_size: Patch
    batch_size: int
    memory: int
    outputs: int
    checkpointing: bool
    reason: str


@dataclass(frozen=True)
class _Found:
    patch: Patch
    memory: TrainingMemory
    checkpointing: bool


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
        measure: See `MeasureMemory`; called for few patches.
        target_gib: Memory that a training step may use, in GiB.
        pixels_in_dataset: Pixels of all training images together.
        checkpointed: Whether to recompute activations; ``None`` to do so only where patches that
            see enough of the image do not fit otherwise.

    Raises:
        UserError: Not even the smallest patch fits.
    """
    smallest = round_up(min_size, size_divisor)
    search = _Search(
        image=median_shape,
        patches=patches_of(median_shape, divisor=size_divisor, smallest=(smallest, smallest)),
        measure=measure,
        target_gib=target_gib,
    )
    attempts = [False, True] if checkpointed is None else [checkpointed]
    patch, checkpointing = search.find(attempts)
    memory = search.measured(patch, checkpointing)
    fitting = memory.largest_batch(search.target)
    covering = round(pixels_in_dataset * LARGEST_SHARE_OF_DATA / (patch[0] * patch[1]))
    batch = max(SMALLEST_BATCH, min(fitting, covering))
    reason = search.reason(patch, checkpointing, asked=checkpointed is not None)
    if batch < fitting:
        limit = (
            f"at most {100 * LARGEST_SHARE_OF_DATA:.0f} % of all pixels"
            if batch <= covering
            else "the smallest batch, as there are few images"
        )
        reason += f"; {batch} of them, not the {fitting} that fit, are {limit}"
    return PatchPlan(
        patch,
        batch,
        memory.total(batch),
        memory.outputs,
        checkpointing=checkpointing,
        reason=reason,
    )


class _Search:
    """The search for a patch, which remembers what was measured.

    Args:
        image: Height and width of the median image.
        patches: From the whole image down to the smallest.
        measure: See `MeasureMemory`.
        target_gib: Memory that a step may use.
    """

    def __init__(
        self,
        image: tuple[float, float],
        patches: Sequence[Patch],
        measure: MeasureMemory,
        target_gib: float,
    ):
        self.image, self.patches = image, patches
        self.target_gib, self.target = target_gib, int(target_gib * GIB)
        self._measure = measure
        self._known: dict[tuple[Patch, bool], TrainingMemory] = {}

    def measured(self, patch: Patch, checkpointing: bool) -> TrainingMemory:
        """Measure a patch, once."""
        if (patch, checkpointing) not in self._known:
            self._known[patch, checkpointing] = self._measure(patch, checkpointing)
        return self._known[patch, checkpointing]

    def find(self, attempts: Sequence[bool]) -> tuple[Patch, bool]:
        """Return the largest patch that fits, and whether with checkpointing.

        Args:
            attempts: With which settings of checkpointing to try. All but the last one try the
                patches only that see enough of the image.

        Raises:
            UserError: None fits.
        """
        for checkpointing in attempts:
            patches = self.patches if checkpointing is attempts[-1] else self.patches_seeing_enough
            measure = partial(self.measured, checkpointing=checkpointing)
            patch = largest_that_fits(patches, measure, self.target)
            if patch is not None:
                return patch, checkpointing
        raise UserError(
            f"a training step with {SMALLEST_BATCH} patches of {_text(self.patches[-1])}, the "
            f"smallest, needs {self._two(self.patches[-1], attempts[-1])} GiB, more than "
            f"{self.target_gib:g} GiB",
            where="--gpu-memory",
            mend="give more memory, or choose a smaller network",
        )

    @property
    def patches_seeing_enough(self) -> Sequence[Patch]:
        """The patches that see half of the image's height and width, or 512 pixels."""
        enough = [min(side * SEEN_SHARE, SEEN_PIXELS) for side in self.image]
        seeing = [p for p in self.patches if p[0] >= enough[0] and p[1] >= enough[1]]
        return seeing or self.patches[:1]

    def reason(self, patch: Patch, checkpointing: bool, *, asked: bool) -> str:
        """Say why this patch is the one."""
        whole, image = self.patches[0], (round(self.image[0]), round(self.image[1]))
        reason = f"patches of {_text(patch)} see the whole median image of {_text(image)}"
        if patch != whole:
            seen = min(1.0, patch[0] / image[0]) * min(1.0, patch[1] / image[1])
            reason = (
                f"patches of {_text(patch)} see {100 * seen:.0f} % of the median image of "
                f"{_text(image)}: two of the whole image would need "
                f"{self._two(whole, checkpointing)} GiB, more than {self.target_gib:g} GiB"
            )
        if checkpointing and asked:
            reason += "; blocks are computed again in the backward pass, as asked"
        elif checkpointing:
            small = self.patches_seeing_enough[-1]
            reason += (
                "; blocks are computed again in the backward pass (checkpointing), as otherwise "
                f"even two patches of {_text(small)} would need {self._two(small, False)} GiB"
            )
        return reason

    def _two(self, patch: Patch, checkpointing: bool) -> str:
        return f"{self.measured(patch, checkpointing).total(SMALLEST_BATCH) / GIB:.1f}"


def _text(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)
