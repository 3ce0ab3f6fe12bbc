"""Masks from several models: `ensemble`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmedseg.errors import UserError

if TYPE_CHECKING:
    from nnmedseg.inference.ensembles.mean import Weighting
    from nnmedseg.inference.folders.manifest import Manifest


def ensemble(
    output: str | Path,
    *,
    probabilities: Sequence[str | Path] = (),
    images: str | Path | Sequence[str | Path] | None = None,
    models: Sequence[str | Path] = (),
    weights: Weighting = "validation",
    folds: Sequence[int | str] | None = None,
    checkpoint: str | None = None,
    device: str | None = None,
    mirroring: bool = True,
    png: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Average the probabilities of several models, and write the masks that follow.

    Post-processing that was learnt for one model is not done: it was not learnt on the mean.

    Args:
        output: Folder for the masks.
        probabilities: Folders that :func:`nnmedseg.predict` has written probabilities to, or
            ``nnUNetv2_predict --save_probabilities``.
        images: Instead of these, images that ``models`` predict; see
            :func:`nnmedseg.inference.inputs.cases.find_cases`.
        models: Model folders ``Trainer__Plans__configuration``.
        weights: ``"validation"``: proportional to each model's mean Dice on the cases that its
            folds held out; ``"equal"``; or a number for each model.
        folds: Folds of each model whose logits are averaged (default: all that are trained).
        checkpoint: ``"final"`` (the default) or ``"best"``, of each model.
        device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
        mirroring: Average over mirrored copies of each image, as nnU-Net does.
        png: Also write each mask as PNG.
        overwrite: Combine again what an earlier run has completed.

    Returns:
        What became of each image.
    """
    of_models = images, models or None, folds, checkpoint, device, mirroring or None
    if probabilities and of_models != (None, None, None, None, None, True):
        raise UserError(
            "images, models, folds, checkpoint, device and mirroring are not for folders of "
            "probabilities, which are predicted already",
            where="the command line",
            mend="give folders of probabilities alone, or images and models",
        )
    if len(probabilities or models) < 2 or (models and images is None):
        raise UserError(
            "an ensemble takes two folders of probabilities at least, or images and two models",
            where="the command line",
            mend="give FOLDER FOLDER -o OUTPUT, or -i IMAGES -m MODEL MODEL -o OUTPUT",
        )
    from nnmedseg import nnunet

    nnunet.prepare()
    if probabilities:
        from nnmedseg.inference.ensembles.of_folders import ensemble_folders

        return ensemble_folders(
            probabilities, output, weights=weights, png=png, overwrite=overwrite
        )
    from nnmedseg.devices import choose_device
    from nnmedseg.inference.ensembles.of_models import ensemble_models
    from nnmedseg.inference.predictor import MedSegPredictor

    chosen = choose_device(device)
    members = [
        MedSegPredictor.from_folder(
            model, folds, checkpoint=checkpoint or "final", device=chosen, mirroring=mirroring
        )
        for model in models
    ]
    return ensemble_models(
        members, images or [], output, weights=weights, png=png, overwrite=overwrite
    )
