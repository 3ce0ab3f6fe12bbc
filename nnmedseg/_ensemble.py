"""Masks from several models: `ensemble`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnmedseg.errors import UserError

if TYPE_CHECKING:
    from nnmedseg.inference.ensembles.mean import Weighting
    from nnmedseg.inference.folders.manifest import Manifest
    from nnmedseg.inference.outputs.probabilities import ProbabilityType


def ensemble(
    output: str | Path,
    *,
    folders: Sequence[str | Path] = (),
    images: str | Path | Sequence[str | Path] | None = None,
    models: Sequence[str | Path] = (),
    weights: Weighting = "validation",
    folds: Sequence[int | str] | None = None,
    checkpoint: str | None = None,
    device: str | None = None,
    mirroring: bool = True,
    png: bool = False,
    overlay: bool = False,
    probabilities: ProbabilityType | None = None,
    uncertainty: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Average the probabilities of several models, and write the masks that follow.

    Post-processing that was learnt for one model is not done: it was not learnt on the mean.

    Args:
        output: Folder for the masks.
        folders: Of probabilities, that :func:`nnmedseg.predict` or ``nnUNetv2_predict
            --save_probabilities`` has written.
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
        overlay: Also write each image with the outlines of its labels; not of ``folders``, which
            hold no images.
        probabilities: ``"float16"`` or ``"uint8"`` to write the mean probability of each class too;
            the output can then be one of the ``folders`` of another ensemble.
        uncertainty: Also write how undecided the models are about each pixel: the entropy of the
            mean, from 0 to 1.
        overwrite: Combine again what an earlier run has completed.

    Returns:
        What became of each image.
    """
    of_models = images, models or None, folds, checkpoint, device, mirroring or None
    if folders and of_models != (None, None, None, None, None, True):
        raise UserError(
            "images, models, folds, checkpoint, device and mirroring are not for folders of "
            "probabilities, which are predicted already",
            where="the command line",
            mend="give folders of probabilities alone, or images and models",
        )
    if len(folders or models) < 2 or (models and images is None):
        raise UserError(
            "an ensemble takes two folders of probabilities at least, or images and two models",
            where="the command line",
            mend="give FOLDER FOLDER -o OUTPUT, or -i IMAGES -m MODEL MODEL -o OUTPUT",
        )
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.inference.outputs.chosen import Outputs

    outputs = Outputs(png, overlay, probabilities, uncertainty)
    if folders:
        from nnmedseg.inference.ensembles.of_folders import ensemble_folders

        return ensemble_folders(
            folders, output, weights=weights, outputs=outputs, overwrite=overwrite
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
        members, images or [], output, weights=weights, outputs=outputs, overwrite=overwrite
    )
