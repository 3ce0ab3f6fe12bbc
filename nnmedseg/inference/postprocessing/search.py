"""Learn a model's post-processing on its cross-validation.

Everything is measured on the predictions that each fold made of the cases that it had not seen.
What is chosen on these cases looks a little better on them than it is. So the search is repeated
once for each fold, without its cases, and what it finds is done to them: this leave-one-fold-out
gain is what to expect of new images. Where it is a loss, nothing is done at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnmedseg.cores import cpu_count
from nnmedseg.errors import DataError
from nnmedseg.files import write_json
from nnmedseg.inference.postprocessing.choice import (
    LEAST_CASES,
    SIGNIFICANCE,
    Trial,
    choose_steps,
)
from nnmedseg.inference.postprocessing.measures import (
    CaseMeasures,
    ValidationCase,
    dice_of,
    measure,
)
from nnmedseg.inference.postprocessing.rules import (
    FORMAT_VERSION,
    POSTPROCESSING_FILE,
    SUMMARY,
    PostProcessing,
    Step,
    Target,
    TargetSteps,
    hash_of_validation,
    targets_of,
)
from nnmedseg.inference.predictor import NATURAL_READER
from nnmedseg.inference.trained_folds import split_of
from nnmedseg.inference.validation_folds import HeldOut, model_file
from nnmedseg.nnunet.one_at_a_time import OneAtATime
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

KERNEL_RADII = (1, 2, 4, 8)
"""Radii of openings and closings to try, in pixels of the finest axis; ProMISe's is about 2."""


@dataclass(frozen=True)
class _Search:
    """What the cases of one search have in common."""

    cases: Sequence[HeldOut]
    reader: Any
    targets: list[Target]
    ignore_label: int | None
    dimensions: int
    unit: str
    pixel: float

    def load(self, case: HeldOut) -> ValidationCase:
        """Read the masks ``(Z, H, W)`` of a case."""
        prediction, properties = _read(self.reader, case.prediction)
        reference, _ = _read(self.reader, case.reference)
        if prediction.shape != reference.shape:
            raise DataError(
                f"prediction {prediction.shape} and reference {reference.shape} differ in size",
                where=f"{case.prediction} and {case.reference}",
                mend="validate the fold again on the data as they are now",
            )
        if self.dimensions == 2 and len(prediction) > 1:
            raise DataError(
                f"the mask has {len(prediction)} slices, those that its model was planned for "
                "have one",
                where=case.prediction,
                mend="plan and train again on the data as they are now",
            )
        return ValidationCase(prediction, reference, properties["spacing"], self.ignore_label)

    def measure(self, case: HeldOut) -> list[CaseMeasures]:
        """Measure each target of a case."""
        loaded = self.load(case)
        if self.dimensions == 2:
            loaded = loaded.only_slice()
        return [measure(loaded, target, self.shapes) for target in self.targets]

    @property
    def shapes(self) -> list[Step]:
        """The openings and closings to try."""
        radii = [radius * self.pixel for radius in KERNEL_RADII]
        return [Step(name, radius) for name in ("opening", "closing") for radius in radii]

    def learn(self, table: list[list[CaseMeasures]], numbers: Sequence[int]) -> _Learnt:
        """Choose steps on the cases with these numbers."""
        folds = [self.cases[number].fold for number in numbers]
        found, trials = [], {}
        for index, target in enumerate(self.targets):
            measures = [table[number][index] for number in numbers]
            choice, trials[target.name] = choose_steps(measures, folds, self.shapes)
            if choice.steps:
                found.append(TargetSteps(target, choice.steps))
        return _Learnt(PostProcessing(self.dimensions, self.unit, tuple(found)), trials)

    def dice(self, case: HeldOut, choices: Sequence[PostProcessing]) -> list[list[float]]:
        """Return the Dice of each target after each choice, NaN where there is none of it."""
        loaded = self.load(case)
        results = (chosen(loaded.prediction, loaded.spacing) for chosen in choices)
        return [[_dice(labels, loaded, target) for target in self.targets] for labels in results]


@dataclass(frozen=True)
class _Learnt:
    postprocessing: PostProcessing
    trials: dict[str, list[Trial]]


def learn_postprocessing(model: Path, cases: Sequence[HeldOut]) -> dict[str, Any]:
    """Learn post-processing and write it into the model folder.

    Args:
        model: The model folder.
        cases: Predictions and references, see `held_out_cases`.

    Returns:
        The content of ``postprocessing.json``: ``targets`` with the steps that are done, and
        ``evidence`` for all that were tried.

    Raises:
        DataError: A mask cannot be read, or does not have the size of its reference.
    """
    search = _open(model, cases)
    folds = sorted({case.fold for case in cases}, key=int)
    with ThreadPoolExecutor(cpu_count()) as pool:
        table = list(track(pool.map(search.measure, cases), "Trying steps", len(cases)))
        learnt = search.learn(table, range(len(cases)))
        others = {
            fold: search.learn(table, [n for n, case in enumerate(cases) if case.fold != fold])
            for fold in folds
        }
        nothing = PostProcessing(search.dimensions, search.unit)

        def score(case: HeldOut) -> list[list[float]]:
            of_others = others[case.fold].postprocessing
            return search.dice(case, [nothing, learnt.postprocessing, of_others])

        dice = np.array(list(track(pool.map(score, cases), "Checking them", len(cases))))
    evidence = _evidence(search, dice, learnt, others)
    _warn_of_few_cases(evidence)
    means = evidence["mean_dice"]
    helped = means["after_leaving_its_fold_out"] >= means["before"]
    content = {
        "format_version": FORMAT_VERSION,
        **(learnt.postprocessing if helped else nothing).describe(),
        "split_sha256": split_of(model, folds),
        "folds": {
            fold: {
                "cases": sum(case.fold == fold for case in cases),
                "validation_sha256": hash_of_validation(model / f"fold_{fold}" / SUMMARY),
            }
            for fold in folds
        },
        "evidence": evidence,
    }
    write_json(content, model / POSTPROCESSING_FILE)
    return content


def _open(model: Path, cases: Sequence[HeldOut]) -> _Search:
    plans = PlansManager(model_file(model, "plans.json"))
    manager = plans.get_label_manager(model_file(model, "dataset.json"))
    reader = plans.image_reader_writer_class()
    return _Search(
        cases,
        reader,
        targets_of(manager),
        manager.ignore_label,
        dimensions=2 if plans.original_median_shape_after_transp[0] == 1 else 3,
        unit="px" if type(reader).__name__ == NATURAL_READER else "mm",
        pixel=min(plans.original_median_spacing_after_transp),
    )


def _read(reader: Any, path: Path) -> tuple[npt.NDArray[np.unsignedinteger], dict[str, Any]]:
    """Return labels ``(Z, H, W)`` and what nnU-Net's reader says of them."""
    try:
        labels, properties = OneAtATime(reader).read_seg(str(path))
    except Exception as error:
        raise DataError(f"the mask cannot be read: {error}", where=path) from error
    return np.rint(labels[0]).astype(np.uint16), properties


def _dice(labels: npt.NDArray[np.integer], case: ValidationCase, target: Target) -> float:
    counted = case.counted()
    true = target.mask_in(case.reference) & counted
    if not true.any() and not (target.mask_in(case.prediction) & counted).any():
        return float("nan")
    predicted = target.mask_in(labels) & counted
    return dice_of(*(int(np.count_nonzero(mask)) for mask in (predicted & true, predicted, true)))


def _evidence(
    search: _Search,
    dice: npt.NDArray[np.float64],
    learnt: _Learnt,
    others: Mapping[str, _Learnt],
) -> dict[str, Any]:
    """Return what speaks for the steps; ``dice`` is ``(cases, choices, targets)``."""
    means = np.full(dice.shape[1:], np.nan)
    for choice, target in np.ndindex(means.shape):
        present = dice[:, choice, target][~np.isnan(dice[:, choice, target])]
        if len(present):
            means[choice, target] = present.mean()
    counts = (~np.isnan(dice[:, 0])).sum(axis=0)
    labels = {
        target.name: {
            "cases": int(counts[index]),
            "dice": _named(means[:, index]),
            "tried": [trial.describe() for trial in learnt.trials[target.name]],
        }
        for index, target in enumerate(search.targets)
    }
    overall = means[:, counts > 0].mean(axis=1) if counts.any() else np.ones(len(means))
    return {
        "rule": {
            "significance": SIGNIFICANCE,
            "least_cases": LEAST_CASES,
            "dice_of_two_empty_masks": "not counted, or 1 where steps have emptied the prediction",
        },
        "mean_dice": _named(overall),
        "labels": labels,
        "chosen_without_fold": {
            fold: found.postprocessing.describe()["targets"] for fold, found in others.items()
        },
    }


def _warn_of_few_cases(evidence: Mapping[str, Any]) -> None:
    few = [name for name, label in evidence["labels"].items() if label["cases"] < LEAST_CASES]
    if few:
        logger.warning(
            "Nothing can be learnt for label %s: fewer than %d validation cases have it, which no "
            "gain is significant on",
            ", ".join(few),
            LEAST_CASES,
        )


def _named(means: npt.NDArray[np.float64]) -> dict[str, float | None]:
    names = ("before", "after", "after_leaving_its_fold_out")
    return {
        name: None if np.isnan(mean) else float(mean)
        for name, mean in zip(names, means, strict=True)
    }
