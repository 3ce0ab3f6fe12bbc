"""Predict a folder: one bad file never stops the rest, and a second run goes on where one ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnmedseg.inference.folders.manifest import Manifest
from nnmedseg.inference.folders.pipeline import Pipeline
from nnmedseg.inference.folders.run import FolderRun
from nnmedseg.inference.inputs.cases import find_cases
from nnmedseg.inference.inputs.prompts import Prompts
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.postprocessing.rules import PostProcessing
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.trained_folds import checkpoint_hashes
from nnmedseg.inference.validation_folds import mean_validation_dice


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
    pipeline = Pipeline(predictor, target, outputs, prompts, postprocessing)
    model = identity(predictor, prompts, postprocessing)
    run = FolderRun(target, outputs.names, pipeline.run)
    return run.over(cases, model, overwrite=overwrite)


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
        "labels": predictor.dataset_json["labels"],
        "regions_class_order": predictor.dataset_json.get("regions_class_order"),
        "validation_dice": mean_validation_dice(predictor.model, predictor.folds),
        **({} if prompts is None else {"prompts": prompts.source}),
        **({} if postprocessing is None else {"postprocessing": postprocessing.describe()}),
    }
