"""What every choice of post-processing steps does to one validation case, found in one pass.

Steps that change shapes are run; which regions then remain, for any smallest size, follows from the
regions' sizes and overlaps, which is all that is kept of a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from nnmedseg.inference.postprocessing.mask_steps import Mask, bounding_box, connected_regions
from nnmedseg.inference.postprocessing.rules import LabelMap, Step, Target, run

FILL_HOLES = Step("fill_holes")
KEEP_LARGEST = Step("keep_largest")
REMOVE_SMALL = "remove_small"


@dataclass(frozen=True)
class Choice:
    """Steps for one label, at most one of each kind, in the order in which they are done.

    Attributes:
        shape: Opening or closing.
        holes: `FILL_HOLES`.
        regions: `KEEP_LARGEST`, or removing small ones.
    """

    shape: Step | None = None
    holes: Step | None = None
    regions: Step | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them in order."""
        return tuple(step for step in (self.shape, self.holes, self.regions) if step is not None)


@dataclass(frozen=True)
class RegionCounts:
    """The connected regions of a predicted mask; arrays of shape ``(R,)``.

    Attributes:
        sizes: Area or volume.
        predicted: Pixels that count, which those with the ignore label do not.
        correct: Those among them that are in the reference too.
    """

    sizes: npt.NDArray[np.floating]
    predicted: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]


@dataclass(frozen=True)
class CaseMeasures:
    """One target in one case.

    Attributes:
        reference: Pixels in the reference mask.
        reference_sizes: ``(R,)``, of the connected regions of that.
        regions: Of the prediction, after each choice of ``shape`` and ``holes``.
    """

    reference: int
    reference_sizes: npt.NDArray[np.floating]
    regions: dict[tuple[Step | None, Step | None], RegionCounts]

    @property
    def is_present(self) -> bool:
        """Whether the target is in the reference or in the prediction as it was made."""
        return bool(self.reference or self.regions[None, None].predicted.sum())

    def dice(self, choice: Choice) -> float:
        """Return the Dice after the steps; 1 where nothing is left and nothing should be."""
        counts = self.regions[choice.shape, choice.holes]
        kept = _kept(counts.sizes, choice.regions)
        predicted, correct = int(counts.predicted[kept].sum()), int(counts.correct[kept].sum())
        return dice_of(correct, predicted, self.reference)


def dice_of(correct: int, predicted: int, reference: int) -> float:
    """Return the Dice of pixel counts, 1 for two empty masks."""
    return 2 * correct / (predicted + reference) if predicted + reference else 1.0


@dataclass(frozen=True)
class ValidationCase:
    """A prediction and its reference, of two or three dimensions each.

    Attributes:
        prediction: As the network made it.
        reference: Of the same shape.
        spacing: Distance of pixels along the axes.
        ignore_label: Of the reference, where it is not known what is right.
    """

    prediction: LabelMap
    reference: npt.NDArray[np.integer]
    spacing: Sequence[float]
    ignore_label: int | None = None

    def only_slice(self) -> ValidationCase:
        """Return the first slice of three dimensions as a case of two."""
        return replace(
            self,
            prediction=self.prediction[0],
            reference=self.reference[0],
            spacing=self.spacing[1:],
        )

    def counted(self) -> Mask:
        """Return where it is known what is right."""
        if self.ignore_label is None:
            return np.ones(self.reference.shape, np.bool_)
        return self.reference != self.ignore_label


def measure(case: ValidationCase, target: Target, shapes: Sequence[Step]) -> CaseMeasures:
    """Measure a target in a case.

    Args:
        case: The case.
        target: What is measured.
        shapes: Openings and closings to try.
    """
    pixel = float(np.prod(case.spacing))
    counted = case.counted()
    true, predicted = target.mask_in(case.reference), target.mask_in(case.prediction)
    true_box, box = bounding_box(true), bounding_box(predicted)
    sizes = np.zeros(0) if true_box is None else pixel * connected_regions(true[true_box])[1]
    if box is None:
        nothing = RegionCounts(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
        regions = dict.fromkeys(product((None, *shapes), (None, FILL_HOLES)), nothing)
    else:
        free = target.free_in(case.prediction[box])
        regions = {
            steps: _count(mask, true[box], counted[box], pixel)
            for steps, mask in _shaped(predicted[box], free, case.spacing, shapes)
        }
    return CaseMeasures(int(np.count_nonzero(true & counted)), sizes, regions)


def _shaped(
    mask: Mask, free: Mask, spacing: Sequence[float], shapes: Sequence[Step]
) -> Iterator[tuple[tuple[Step | None, Step | None], Mask]]:
    for shape in (None, *shapes):
        shaped = mask if shape is None else run([shape], mask, free, spacing)
        yield (shape, None), shaped
        yield (shape, FILL_HOLES), run([FILL_HOLES], shaped, free, spacing)


def _count(mask: Mask, true: Mask, valid: Mask, pixel: float) -> RegionCounts:
    regions, areas = connected_regions(mask)
    numbers = len(areas) + 1
    predicted = np.bincount(regions[mask & valid], minlength=numbers)[1:]
    correct = np.bincount(regions[mask & valid & true], minlength=numbers)[1:]
    return RegionCounts(areas * pixel, predicted, correct)


def _kept(sizes: npt.NDArray[np.floating], step: Step | None) -> npt.NDArray[np.bool_]:
    if step is None:
        return np.ones(len(sizes), np.bool_)
    if step == KEEP_LARGEST:
        return np.arange(len(sizes)) == (sizes.argmax() if len(sizes) else 0)
    return sizes >= step.size
