"""Which post-processing steps help a label, decided on cases that the networks were not trained on.

One step after the other is added, each time the one with the largest gain, as long as one helps.
**A step helps if, compared with the steps before it over all cases in which the label is,**

1. the mean Dice rises,
2. it falls in none of the folds, and
3. a one-sided Wilcoxon signed-rank test over the cases that it changes gives p < `SIGNIFICANCE`.

The third is stricter than the usual 0.05 because a step is the best of up to eighteen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from nnmedseg.inference.postprocessing.measures import (
    FILL_HOLES,
    KEEP_LARGEST,
    REMOVE_SMALL,
    CaseMeasures,
    Choice,
)
from nnmedseg.inference.postprocessing.rules import Step

SIGNIFICANCE = 0.01
LEAST_CASES = 7
"""So many cases must a step make better, and none worse, for p < `SIGNIFICANCE` (1/128)."""

MOST_COUNTED = 50
"""Cases up to which the test is exact; of more SciPy's normal approximation is as good."""

SIZE_QUANTILES = (0.05, 0.25, 0.5)
SIZE_SHARES = (0.1, 0.3, 1.0)
"""Smallest sizes to try: shares of these quantiles of the sizes of regions in reference masks. What
is removed is wrong where it is smaller than anything that is there, or than a part of that."""


@dataclass(frozen=True)
class Trial:
    """A step that was tried.

    Attributes:
        step: The step.
        before: Mean Dice without it.
        after: Mean Dice with it.
        better: Cases whose Dice rises.
        worse: Cases whose Dice falls.
        p: Of the test; 1 where no case changes.
        fold_gains: How the mean Dice of each fold changes.
        kept: Whether it helps, and more than all others that were tried at the time.
    """

    step: Step
    before: float
    after: float
    better: int
    worse: int
    p: float
    fold_gains: dict[str, float]
    kept: bool = False

    @property
    def helps(self) -> bool:
        """Whether it fulfils the rule above."""
        rises = self.after > self.before and min(self.fold_gains.values()) >= 0
        return rises and self.p < SIGNIFICANCE

    def describe(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "step": self.step.name,
            "size": self.step.size,
            "dice_before": self.before,
            "dice_after": self.after,
            "cases_better": self.better,
            "cases_worse": self.worse,
            "p": self.p,
            "fold_gains": self.fold_gains,
            "kept": self.kept,
        }


def choose_steps(
    measures: Sequence[CaseMeasures], folds: Sequence[str], shapes: Sequence[Step]
) -> tuple[Choice, list[Trial]]:
    """Find the steps that help one label.

    Args:
        measures: Of each case.
        folds: That each case was held out in.
        shapes: Openings and closings that were measured.

    Returns:
        The steps, and all that were tried, in turn.
    """
    present = [number for number, case in enumerate(measures) if case.is_present]
    cases = [measures[number] for number in present]
    names = np.array([folds[number] for number in present])
    choice, trials = Choice(), list[Trial]()
    if len(cases) < LEAST_CASES:
        return choice, trials
    sizes = _smallest_sizes(cases)
    before = _dice(cases, choice)
    while True:
        tried = [
            (candidate, _try(step, before, _dice(cases, candidate), names))
            for step, candidate in _candidates(choice, shapes, sizes)
        ]
        helping = [pair for pair in tried if pair[1].helps]
        if not helping:
            return choice, [*trials, *(trial for _, trial in tried)]
        choice, best = max(helping, key=lambda pair: pair[1].after)
        trials += [replace(trial, kept=trial is best) for _, trial in tried]
        before = _dice(cases, choice)


def signed_rank_test(differences: npt.NDArray[np.float64]) -> float:
    """Return p of Wilcoxon's signed-rank test for differences, none of them 0, being above 0.

    Of few differences, equal ones among them, SciPy draws all signs one after the other, which
    takes seconds; here the sums of ranks are counted.
    """
    if len(differences) > MOST_COUNTED:
        return float(stats.wilcoxon(differences, alternative="greater").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # equal ones share halves
    likely = np.ones(1)  # of each sum of the ranks of positive differences
    for rank in ranks:
        nothing = np.zeros(rank)
        likely = (np.concatenate([likely, nothing]) + np.concatenate([nothing, likely])) / 2
    return float(likely[ranks[differences > 0].sum() :].sum())


def _candidates(
    choice: Choice, shapes: Sequence[Step], sizes: Sequence[float]
) -> Iterator[tuple[Step, Choice]]:
    if choice.regions is None:
        for step in (KEEP_LARGEST, *(Step(REMOVE_SMALL, size) for size in sizes)):
            yield step, replace(choice, regions=step)
    if choice.holes is None:
        yield FILL_HOLES, replace(choice, holes=FILL_HOLES)
    if choice.shape is None:
        for step in shapes:
            yield step, replace(choice, shape=step)


def _smallest_sizes(cases: Sequence[CaseMeasures]) -> list[float]:
    sizes = np.concatenate([case.reference_sizes for case in cases])
    if not len(sizes):
        return []
    tried = np.outer(SIZE_SHARES, np.quantile(sizes, SIZE_QUANTILES))
    return [float(size) for size in np.unique(tried)]


def _dice(cases: Sequence[CaseMeasures], choice: Choice) -> npt.NDArray[np.float64]:
    return np.array([case.dice(choice) for case in cases])


def _try(
    step: Step,
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    folds: npt.NDArray[np.str_],
) -> Trial:
    gains = after - before
    return Trial(
        step,
        float(before.mean()),
        float(after.mean()),
        int((gains > 0).sum()),
        int((gains < 0).sum()),
        signed_rank_test(gains[gains != 0]),
        {str(fold): float(gains[folds == fold].mean()) for fold in np.unique(folds)},
    )
