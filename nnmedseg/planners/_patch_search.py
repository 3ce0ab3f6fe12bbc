"""The largest patch that fits in memory, found with few measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnmedseg.planners.memory import SMALLEST_BATCH, TrainingMemory

Patch = tuple[int, int]


def patches_of(image: Sequence[float], *, divisor: int, smallest: Patch) -> list[Patch]:
    """Return the patches from the whole image down to the smallest, each a divisor less in a side.

    The side that shrinks is the one that is longest in relation to the image's, as in nnU-Net.

    Args:
        image: Height and width of the image in pixels.
        divisor: Of all sides.
        smallest: Height and width, multiples of the divisor.
    """
    whole = (round_up(image[0], divisor), round_up(image[1], divisor))
    patch = [max(least, side) for least, side in zip(smallest, whole, strict=True)]
    found = [(patch[0], patch[1])]
    while tuple(patch) != tuple(smallest):
        shrinkable = [axis for axis in (0, 1) if patch[axis] > smallest[axis]]
        axis = max(shrinkable, key=lambda axis: patch[axis] / image[axis])
        patch[axis] -= divisor
        found.append((patch[0], patch[1]))
    return found


def largest_that_fits(
    patches: Sequence[Patch], measure: Callable[[Patch], TrainingMemory], target: int
) -> Patch | None:
    """Return the first patch of which two images fit; ``None`` if none does.

    Memory grows about linearly with the pixels, so that what was measured tells where to measure
    next. The patch that is returned was measured, and so was the next larger one, which is too
    large.

    Args:
        patches: From the largest to the smallest.
        measure: Measures the memory of a training step.
        target: Bytes that it may take.
    """
    needs: dict[int, TrainingMemory] = {}

    def fits(index: int) -> bool:
        if index not in needs:
            needs[index] = measure(patches[index])
        return needs[index].total(SMALLEST_BATCH) <= target

    if fits(0):
        return patches[0]
    too_large, fitting = 0, len(patches)
    while fitting - too_large > 1:
        guess = _guess(patches, needs, range(too_large + 1, fitting), target)
        if fits(guess):
            fitting = guess
        else:
            too_large = guess
    return None if fitting == len(patches) else patches[fitting]


def _guess(
    patches: Sequence[Patch],
    needs: dict[int, TrainingMemory],
    between: range,
    target: int,
) -> int:
    """Return the patch that needs the target, by the line through the two nearest measurements.

    The first measurement alone gives the line to its fixed bytes.
    """
    points = [(memory.total(SMALLEST_BATCH), _area(patches[i])) for i, memory in needs.items()]
    if len(points) == 1:
        points.append((min(needs[0].fixed, points[0][0] - 1), 0))
    (need, area), (need_0, area_0) = sorted(points, key=lambda point: abs(point[0] - target))[:2]
    if need == need_0:
        return between[len(between) // 2]
    wanted = area + (target - need) * (area - area_0) / (need - need_0)
    return next((i for i in between if _area(patches[i]) <= wanted), between[-1])


def _area(patch: Patch) -> int:
    return patch[0] * patch[1]


def round_up(size: float, divisor: int) -> int:
    """Return the smallest multiple of ``divisor`` that is at least ``size``."""
    return int(-(-size // divisor)) * divisor
