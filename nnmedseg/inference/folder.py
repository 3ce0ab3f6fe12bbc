"""Predict a folder: one bad file never stops the rest, and a second run goes on where one ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnmedseg.errors import UserError
from nnmedseg.inference.cases import InputCase, find_cases
from nnmedseg.inference.manifest import Manifest
from nnmedseg.inference.outputs import Outputs
from nnmedseg.inference.pipeline import Pipeline
from nnmedseg.inference.postprocessing import PostProcessing
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.prompts import Prompts
from nnmedseg.inference.trained_folds import checkpoint_hashes
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_MANIFESTS = 1.0
"""How much work a power failure may cost; the manifest of many cases takes long to write."""


def predict_folder(
    predictor: MedSegPredictor,
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    outputs: Outputs | None = None,
    overwrite: bool = False,
    prompts: Prompts | None = None,
    postprocessing: PostProcessing | None = None,
) -> Manifest:
    """Write a NIfTI mask for every image, and ``predictions.json`` with what became of each.

    A case that an earlier run with the same model has completed is skipped.

    Args:
        predictor: The loaded model.
        images: See `find_cases`.
        output: Folder for the masks.
        outputs: What to write beside the masks (default: nothing).
        overwrite: Predict completed cases again.
        prompts: Points for a network that takes some, see `open_prompts`.
        postprocessing: What to do to the labels; probabilities and uncertainty stay as they are.

    Raises:
        UserError: There are no images, not one of them could be predicted, or the disk is full.
    """
    outputs = outputs or Outputs()
    cases = find_cases(images, predictor.channels, pictures=predictor.takes_pictures)
    target = Path(output)
    outputs.refuse_conflicts(cases, target)
    target.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.load(target, identity(predictor, prompts, postprocessing))
    pending = cases if overwrite else _not_complete(cases, manifest, target, outputs)
    pipeline = Pipeline(predictor, target, outputs, prompts, postprocessing)
    saved = time.monotonic()
    try:
        for outcome in track(pipeline.run(pending), "Predicting", len(pending)):
            manifest.outcomes[outcome.case] = outcome
            logger.info("%s: %s", outcome.case, outcome.summary)
            if time.monotonic() - saved > SECONDS_BETWEEN_MANIFESTS:
                manifest.save(target)
                saved = time.monotonic()
    finally:
        manifest.save(target)
    if len(manifest.failed_of(cases)) == len(cases):
        raise UserError(
            f"none of the {len(cases)} images could be predicted; the first: "
            f"{manifest.failed_of(cases)[0].message}",
            where=output,
            mend="give images that open in a viewer",
        )
    return manifest


def _not_complete(
    cases: Sequence[InputCase], manifest: Manifest, target: Path, outputs: Outputs
) -> list[InputCase]:
    pending = [
        case for case in cases if not manifest.is_complete(case, target, outputs.names(case))
    ]
    if len(pending) < len(cases):
        logger.info(
            "%d of %d images are predicted already; --overwrite predicts them again",
            len(cases) - len(pending),
            len(cases),
        )
    return pending


def identity(
    predictor: MedSegPredictor,
    prompts: Prompts | None = None,
    postprocessing: PostProcessing | None = None,
) -> dict[str, Any]:
    """Return what decides a prediction: the model, how it is run, and what is done to its masks."""
    return {
        "folder": predictor.model.name,
        "folds": predictor.folds,
        "split_sha256": predictor.split_sha256,
        "checkpoint": predictor.checkpoint_name,
        "checkpoint_sha256": checkpoint_hashes(
            predictor.model, predictor.folds, predictor.checkpoint_name
        ),
        "mirroring": predictor.use_mirroring,
        "whole_images": predictor.whole_images,
        **({} if prompts is None else {"prompts": prompts.source}),
        **({} if postprocessing is None else {"postprocessing": postprocessing.describe()}),
    }
