"""The papers' augmentations, drawn anew for each sample, as transforms of nnU-Net's loaders.

They serve the papers' own protocols, in which a patch is a whole image, brought to the network's
size whatever its aspect ratio. What differs from the authors' code everywhere:

* Most of them augment the original image and then resize it; here the resized image is augmented,
  so that of an image that is not square a rotation is one of the squashed image. Sizes in pixels of
  the original (squares, blurs) are scaled by the median size of the data set.
* Their masks are resized with interpolation, so that they are soft at the edges; here they are
  labels, looked up at the nearest pixel.
* Everything is in floats. Their images of 8 bits are rounded after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnmedseg.errors import UserError
from nnmedseg.training.augmentation import papers

NO_AUGMENTATION = "none"

_PAPERS: Mapping[str, Callable[[papers.Images], list[BasicTransform]]] = {
    "rosper": papers.rosper,
    "asc": papers.rosper,
    "heteromedseg_binary": papers.heteromedseg_binary,
    "heteromedseg_synapse": papers.heteromedseg_synapse,
    "condseg_stage1": papers.condseg_stage1,
    "condseg": papers.condseg,
    "promise": papers.promise,
}

AUGMENTATIONS = (*_PAPERS, NO_AUGMENTATION)
"""Names of the papers' augmentations."""

WITH_RELEASED_FAULT = ("heteromedseg_synapse",)
"""Those of which the authors' code has a fault that can be asked for."""


def training_transforms(
    name: str,
    *,
    patch_size: Sequence[int],
    original_size: Sequence[float],
    intensity: str | None,
    form: str = "corrected",
) -> BasicTransform:
    """Return what a sample goes through in training by a paper's protocol.

    Args:
        name: One of `AUGMENTATIONS`.
        patch_size: Height and width of the network's input, which is the whole image.
        original_size: Median height and width of the images before they were resized.
        intensity: How the paper scales intensities, see
            :data:`nnmedseg.data.intensities.INTENSITIES`; ``None`` for nnU-Net's normalisation.
        form: ``"released"`` brings back what the authors' code gets wrong: noise for images of 0 to
            255 on images of 0 to 1 (``"heteromedseg_synapse"``).

    Raises:
        UserError: There is no augmentation of that name, or the patches are volumes.
    """
    if name not in AUGMENTATIONS:
        raise UserError(
            f"there is no augmentation {name!r}",
            where="the recipe in the plans file",
            mend=f"use one of: nnunet, {', '.join(AUGMENTATIONS)}",
        )
    if len(patch_size) != 2:
        raise UserError(
            f"the augmentation {name!r} is for images, not for volumes",
            where="the recipe in the plans file",
            mend="use nnunet, or a 2d configuration",
        )
    height, width = patch_size
    images = papers.Images(
        levels=papers.Levels(intensity),
        scale=(height / original_size[0], width / original_size[1]),
        released=form == "released",
    )
    return ComposeTransforms(_PAPERS[name](images) if name in _PAPERS else [])
