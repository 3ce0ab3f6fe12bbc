"""Predict a folder: read, predict and write at the same time, one bad file never stops the rest."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnmedseg.errors import DataError, UserError
from nnmedseg.inference.cases import InputCase, LoadedCase, find_cases
from nnmedseg.inference.export import write_mask
from nnmedseg.inference.manifest import FAILED, PREDICTED, Manifest, Outcome, facts_of
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.prompts import PreparedCase, Prompts
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

CASES_READ_AHEAD = 2
CASES_WRITTEN_BEHIND = 2


@dataclass(frozen=True)
class _Prepared:
    """A case ready for the network, or why it is not."""

    case: InputCase
    loaded: LoadedCase | None = None
    data: torch.Tensor | None = None
    properties: dict[str, Any] | None = None
    problem: str = ""


def predict_folder(
    predictor: MedSegPredictor,
    images: str | Path,
    output: str | Path,
    *,
    png: bool = False,
    overwrite: bool = False,
    prompts: Prompts | None = None,
) -> Manifest:
    """Write a NIfTI mask for every image, and ``predictions.json`` with what became of each.

    A case that an earlier run with the same model has completed is skipped.

    Args:
        predictor: The loaded model.
        images: Folder or single image.
        output: Folder for the masks.
        png: Also write PNG masks.
        overwrite: Predict completed cases again.
        prompts: Points for a network that takes some, see `open_prompts`.

    Raises:
        UserError: The folder holds no images, or not one of them could be predicted.
    """
    cases = find_cases(images, predictor.channels, pictures=predictor.takes_pictures)
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.load(target, _identity(predictor, prompts))
    pending = [
        case
        for case in cases
        if overwrite or not manifest.is_complete(case, target, _output_names(case, png))
    ]
    for case in cases:
        if case not in pending:
            logger.info("%s: already predicted", case.name)
    outcomes = _predict(predictor, pending, target, png, prompts)
    for outcome in track(outcomes, "Predicting", len(pending)):
        manifest.outcomes[outcome.case] = outcome
        manifest.save(target)
        logger.info(
            "%s: %s",
            outcome.case,
            outcome.message or f"{outcome.outputs[0]}, {outcome.seconds:.1f} s",
        )
    if len(manifest.failed) == len(cases):
        raise UserError(
            f"none of the {len(cases)} images could be predicted; the first: "
            f"{manifest.failed[0].message}",
            where=images,
            mend="give images that open in a viewer",
        )
    return manifest


def _predict(
    predictor: MedSegPredictor,
    cases: Sequence[InputCase],
    target: Path,
    png: bool,
    prompts: Prompts | None,
) -> Iterator[Outcome]:
    """Yield the outcome of each case, reading ahead and writing behind the network."""
    written: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
        for prepared in _read_ahead(readers, predictor, cases, png, prompts):
            if prepared.data is None or prepared.loaded is None or prepared.properties is None:
                yield _failure(prepared.case, prepared.problem)
                continue
            start = time.monotonic()
            logits = predictor.predict_logits_from_preprocessed_data(prepared.data)
            written.append(
                writers.submit(
                    _write, predictor, prepared, logits, target, png=png, start=start
                )
            )  # fmt: skip
            if len(written) >= CASES_WRITTEN_BEHIND:
                yield written.popleft().result()
        while written:
            yield written.popleft().result()


def _read_ahead(
    pool: ThreadPoolExecutor,
    predictor: MedSegPredictor,
    cases: Sequence[InputCase],
    png: bool,
    prompts: Prompts | None,
) -> Iterator[_Prepared]:
    waiting: deque[Future[_Prepared]] = deque()
    for case in cases:
        waiting.append(pool.submit(_prepare, predictor, case, png, prompts))
        if len(waiting) >= CASES_READ_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _prepare(
    predictor: MedSegPredictor, case: InputCase, png: bool, prompts: Prompts | None
) -> _Prepared:
    try:
        loaded = predictor.load(case)
        if png and loaded.image.shape[1] != 1:
            raise DataError("a volume of several slices cannot be written as PNG")
        data, properties = predictor.preprocess(loaded)
        if prompts is not None:
            slices, height, width = data.shape[1:]
            prepared = PreparedCase(case, loaded, (slices, height, width), properties)
            data = torch.cat([data, prompts.maps(prepared)])
    except UserError as error:
        return _Prepared(case, problem=str(error))
    return _Prepared(case, loaded, data, properties)


def _write(
    predictor: MedSegPredictor,
    prepared: _Prepared,
    logits: torch.Tensor,
    target: Path,
    *,
    png: bool,
    start: float,
) -> Outcome:
    case, loaded = prepared.case, prepared.loaded
    if loaded is None or prepared.properties is None:
        raise TypeError("only a case that was read can be written")
    labels = predictor.labels(logits, prepared.properties)
    names = _output_names(case, png)
    for name in names:
        write_mask(labels, target / name, loaded, predictor)
    seconds = round(time.monotonic() - start, 2)
    return Outcome(case.name, facts_of(case), PREDICTED, names, seconds)


def _failure(case: InputCase, problem: str) -> Outcome:
    return Outcome(case.name, facts_of(case), FAILED, message=problem)


def _output_names(case: InputCase, png: bool) -> list[str]:
    return [f"{case.name}.nii.gz", *([f"{case.name}.png"] if png else [])]


def _identity(predictor: MedSegPredictor, prompts: Prompts | None) -> dict[str, Any]:
    """Return what decides a prediction: model, folds, split, checkpoints' time and prompts."""
    checkpoints = [
        predictor.model / f"fold_{fold}" / predictor.checkpoint_name for fold in predictor.folds
    ]
    return {
        "folder": predictor.model.name,
        "folds": predictor.folds,
        "split_sha256": predictor.split_sha256,
        "checkpoint": predictor.checkpoint_name,
        "written": [path.stat().st_mtime_ns for path in checkpoints],
        "mirroring": predictor.use_mirroring,
        **({} if prompts is None else {"prompts": prompts.source}),
    }
