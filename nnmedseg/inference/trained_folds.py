"""Which folds of a model folder there are, and what they say of themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from nnmedseg.errors import NotFoundError
from nnmedseg.files import hash_of_file, read_json
from nnmedseg.training.settings import RUN_FILE

logger = logging.getLogger(__name__)


def choose_folds(model: Path, folds: Sequence[int | str] | None, checkpoint_name: str) -> list[str]:
    """Return the folds to predict with.

    Args:
        model: The model folder.
        folds: Those that are wanted, or ``None`` for all that are trained.
        checkpoint_name: Name of the file that makes a fold a trained one.

    Raises:
        NotFoundError: The folder is no model folder, or a fold is missing.
    """
    if not (model / "plans.json").is_file():
        raise NotFoundError(
            "there is no trained model here",
            where=model,
            mend="train it first (nnmedseg_train), or check -d, -c, -tr and -p, or give -m",
        )
    trained = sorted(path.parent.name[5:] for path in model.glob(f"fold_*/{checkpoint_name}"))
    chosen = trained if folds is None else [str(fold) for fold in folds]
    missing = [fold for fold in chosen if fold not in trained]
    if missing or not chosen:
        raise NotFoundError(
            f"fold {', '.join(missing) or 'of any number'} has no {checkpoint_name}; "
            f"trained here: {', '.join(trained) or 'none'}",
            where=model,
            mend="let the training finish, choose another fold with -f, or --checkpoint best",
        )
    return chosen


def split_of(model: Path, folds: Sequence[str]) -> str | None:
    """Return the hash of the split of all these folds, ``None`` if it is unknown or not one."""
    records = [model / f"fold_{fold}" / RUN_FILE for fold in folds]
    hashes = {
        read_json(record).get("split_sha256") if record.is_file() else None for record in records
    }
    if len(hashes) > 1:
        logger.warning(
            "The folds %s of %s do not all say that they were trained with one split: what one of "
            "them held out, another may have been trained on",
            ", ".join(folds),
            model.name,
        )
        return None
    return hashes.pop()


def checkpoint_hashes(model: Path, folds: Sequence[str], checkpoint_name: str) -> dict[str, str]:
    """Return the SHA-256 of each fold's checkpoint."""
    return {fold: hash_of_file(model / f"fold_{fold}" / checkpoint_name) for fold in folds}
