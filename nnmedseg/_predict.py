"""The Python API of prediction; see :mod:`nnmedseg`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmedseg.inference.folders.manifest import Manifest
    from nnmedseg.inference.outputs.probabilities import ProbabilityType


def predict(
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    model: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
    device: str | None = None,
    mirroring: bool = True,
    whole_images: bool = False,
    png: bool = False,
    overlay: bool = False,
    probabilities: ProbabilityType | None = None,
    uncertainty: bool = False,
    overwrite: bool = False,
    prompts: str | Path | None = None,
    prompts_from: str | Path | None = None,
    postprocessing: bool = True,
) -> Manifest:
    """Segment every image of a folder.

    Args:
        images: Folders, images or lists of images; see
            :func:`nnmedseg.inference.inputs.cases.find_cases`.
        output: Folder for the masks.
        model: Model folder ``Trainer__Plans__configuration``.
        folds: Folds whose logits are averaged (default: all that are trained).
        checkpoint: ``"final"`` or ``"best"``.
        device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
        mirroring: Average over mirrored copies of each image, as nnU-Net does.
        whole_images: Give a fully convolutional network each image at once instead of in tiles,
            where it is not much larger than a patch: faster, with other labels here and there.
        png: Also write each mask as PNG.
        overlay: Also write each image with the outlines of its labels.
        probabilities: ``"float16"`` or ``"uint8"`` to write the probability of each class too; see
            :func:`nnmedseg.inference.outputs.probabilities.read_probabilities`.
        uncertainty: Also write how undecided folds and mirrored copies are about each pixel.
        overwrite: Predict again what an earlier run has completed.
        prompts: JSON file of points, for a model that takes some; see
            :class:`nnmedseg.inference.inputs.prompts.PromptsFromFile`.
        prompts_from: Folder of masks with the images' names to draw the points from: predictions
            of an oracle where these are the references.
        postprocessing: Do what :func:`find_postprocessing` has found to help this model.

    Returns:
        What became of each image.
    """
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.devices import choose_device
    from nnmedseg.inference.folders.predict import predict_folder
    from nnmedseg.inference.inputs.prompts import open_prompts
    from nnmedseg.inference.outputs.chosen import Outputs
    from nnmedseg.inference.postprocessing.rules import PostProcessing
    from nnmedseg.inference.predictor import MedSegPredictor

    predictor = MedSegPredictor.from_folder(
        model,
        folds,
        checkpoint=checkpoint,
        device=choose_device(device),
        mirroring=mirroring,
        whole_images=whole_images,
    )
    return predict_folder(
        predictor,
        images,
        output,
        outputs=Outputs(png, overlay, probabilities, uncertainty),
        overwrite=overwrite,
        prompts=open_prompts(predictor, prompts, prompts_from),
        postprocessing=PostProcessing.from_model(predictor.model) if postprocessing else None,
    )
