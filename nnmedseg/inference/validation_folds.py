"""The predictions that each fold of a model has written of the cases that it was not trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.errors import NotFoundError, UserError, list_some
from nnmedseg.files import read_json
from nnmedseg.inference.postprocessing.rules import SUMMARY
from nnmedseg.paths import Folders

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """A case with the prediction of the fold that held it out.

    Attributes:
        name: Of the case.
        fold: Of the model.
        prediction: File with labels.
        reference: Likewise.
    """

    name: str
    fold: str
    prediction: Path
    reference: Path


def held_out_cases(
    model: Path, references: Path, ending: str, folds: Sequence[int | str] | None = None
) -> list[HeldOut]:
    """Return the validation cases of all folds, each once.

    Args:
        model: The model folder.
        references: Folder of reference masks with the same file names.
        ending: Of these names.
        folds: Folds to use, or ``None`` for all whose validation is complete. Without it, a fold is
            left out one of whose cases an earlier one has: converters write a release's own split
            after the five folds.

    Raises:
        UserError: Fewer than two folds are validated, or two that were asked for share a case.
        NotFoundError: A fold is not validated, or a reference is missing.
    """
    chosen = _validated(model) if folds is None else _checked(model, folds)
    cases: dict[str, HeldOut] = {}
    for fold in chosen:
        files = sorted((model / f"fold_{fold}" / SUMMARY).parent.glob(f"[!.]*{ending}"))
        names = {file.name[: -len(ending)]: file for file in files}
        shared = sorted(cases.keys() & names.keys())
        if shared and folds is not None:
            raise UserError(
                f"{len(shared)} cases of fold {fold} are held out by another fold too: "
                f"{list_some(shared)}",
                where=model,
                mend="choose folds that share no case with -f",
            )
        if shared:
            logger.info("Fold %s is left out: earlier folds hold out its cases too", fold)
            continue
        for name, file in names.items():
            cases[name] = HeldOut(name, fold, file, references / file.name)
    used = {case.fold for case in cases.values()}
    if len(used) < 2:
        raise UserError(
            "post-processing is learnt on the validation of at least two folds, and here "
            f"{'only fold ' + used.pop() + ' is' if used else 'no fold is'} validated",
            where=model,
            mend="train more folds first (nnmedseg_train -f 1, ...)",
        )
    missing = [case.name for case in cases.values() if not case.reference.is_file()]
    if missing:
        raise NotFoundError(
            f"{len(missing)} validation cases have no reference mask: {list_some(missing)}",
            where=references,
            mend="give the folder of the masks that the model was trained on with --references",
        )
    return list(cases.values())


def references_of(model: Path, folders: Folders) -> Path:
    """Return the folder in which nnU-Net keeps the masks that a model was trained on.

    Raises:
        NotFoundError: The model's data set is not in this workspace.
    """
    dataset = model_file(model, "plans.json")["dataset_name"]
    folder = folders.preprocessed / dataset / "gt_segmentations"
    if not folder.is_dir():
        raise NotFoundError(
            f"the reference masks of {dataset} are not in this workspace",
            where=folder,
            mend="name the workspace with --workspace, or the masks' folder with --references",
        )
    return folder


def model_file(model: Path, name: str) -> Any:
    """Return the content of a JSON file of a model folder.

    Raises:
        NotFoundError: The folder has none.
    """
    if not (model / name).is_file():
        raise NotFoundError(
            "there is no trained model here",
            where=model,
            mend="train it first (nnmedseg_train), or check -d, -c, -tr and -p, or -m",
        )
    return read_json(model / name)


def mean_validation_dice(model: Path, folds: Sequence[str]) -> float | None:
    """Return the mean foreground Dice of folds, as their ``validation/summary.json`` have it.

    ``None`` where one of them is not validated on cases that it was not trained on.
    """
    try:
        files = [model / f"fold_{fold}" / SUMMARY for fold in _checked(model, folds)]
        values = [float(read_json(file)["foreground_mean"]["Dice"]) for file in files]
    except (UserError, ValueError, KeyError, TypeError):
        return None
    mean = sum(values) / len(values)
    return None if math.isnan(mean) else mean


def _validated(model: Path) -> list[str]:
    found = [file.parents[1].name[5:] for file in model.glob(f"fold_*/{SUMMARY}")]
    return sorted((fold for fold in found if fold.isdecimal()), key=int)


def _checked(model: Path, folds: Sequence[int | str]) -> list[str]:
    names = [str(fold) for fold in folds]
    if not all(name.isdecimal() for name in names):
        raise UserError(
            "a network that was trained on all cases holds out none",
            where="-f",
            mend="give numbers of folds",
        )
    missing = [name for name in names if not (model / f"fold_{name}" / SUMMARY).is_file()]
    if missing:
        raise NotFoundError(
            f"fold {', '.join(missing)} is not validated; validated here: "
            f"{', '.join(_validated(model)) or 'none'}",
            where=model,
            mend="let the training finish, which ends with the validation, or choose other folds",
        )
    return names
