"""A model for images in memory: arrays and PIL images in, label maps out, no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from nnmedseg.data.images import to_8_bits
from nnmedseg.devices import choose_device
from nnmedseg.errors import DataError
from nnmedseg.inference.inputs.cases import LoadedCase
from nnmedseg.inference.inputs.loading import NATURAL_SPACING, with_channels
from nnmedseg.inference.postprocessing.rules import PostProcessing
from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.predictor import MedSegPredictor

Labels: TypeAlias = npt.NDArray[np.unsignedinteger]
Picture: TypeAlias = npt.NDArray[Any] | Image.Image
PICTURE_MODES = {"1": "L", "P": "RGB", "PA": "RGB", "LA": "L", "RGBA": "RGB", "CMYK": "RGB"}
"""What modes of PIL are brought to; the others are taken as they are."""


@dataclass(frozen=True)
class _Prepared:
    """An image ready for the network; its spacing is that of its own pixels."""

    data: torch.Tensor
    properties: dict[str, Any]
    spacing: Sequence[float]


class Predictor:
    """A trained model as a function.

    Example::

        predictor = Predictor.from_folder("RoSPERTrainer__RoSPERPlans__2d")
        labels = predictor(PIL.Image.open("lesion.jpg"))  # (H, W)

    Args:
        model: The loaded model.
        postprocessing: What is done to its labels.
    """

    def __init__(self, model: MedSegPredictor, postprocessing: PostProcessing | None = None):
        self.model = model
        self.postprocessing = postprocessing

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        folds: Sequence[int | str] | None = None,
        *,
        checkpoint: str = "final",
        device: str | None = None,
        mirroring: bool = True,
        whole_images: bool = False,
        postprocessing: bool = True,
    ) -> Predictor:
        """Load a model folder ``Trainer__Plans__configuration``.

        Args:
            path: The folder.
            folds: Folds to average (default: all that are trained).
            checkpoint: ``"final"`` or ``"best"``.
            device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
            mirroring: Average over mirrored copies of each image.
            whole_images: See `MedSegPredictor.from_folder`.
            postprocessing: Do what was found to help this model.

        Raises:
            NotFoundError: There is no such model or fold.
            WeightsError: A checkpoint cannot be loaded.
        """
        model = MedSegPredictor.from_folder(
            path,
            folds,
            checkpoint=checkpoint,
            device=choose_device(device),
            mirroring=mirroring,
            whole_images=whole_images,
        )
        return cls(model, PostProcessing.from_model(model.model) if postprocessing else None)

    def __call__(
        self,
        image: Picture | Sequence[Picture],
        spacing: Sequence[float] | None = None,
    ) -> Labels | list[Labels]:
        """Return the label map of an image, or of each image of a list.

        Args:
            image: See `predict`; a list of such, or several pictures as one array ``(B, H, W, C)``.
            spacing: See `predict`; the same for all.

        Returns:
            ``(H, W)`` of a picture, ``(Z, H, W)`` of a volume.
        """
        if isinstance(image, np.ndarray) and self.model.is_natural and image.ndim == 4:
            image = list(image)
        if isinstance(image, Sequence):
            return list(self._labels_of_all(image, spacing))
        return self.predict(image, spacing).labels

    def predict(
        self,
        image: Picture,
        spacing: Sequence[float] | None = None,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Prediction:
        """Predict an image.

        Args:
            image: A picture: a PIL image, or an array ``(H, W)`` or ``(H, W, C)``, which holds 8
                or 16 bit numbers if the model was trained on grey or colour images of 8 bits. For a
                model of volumes an array ``(Z, H, W)`` or ``(C, Z, H, W)``.
            spacing: Of a volume: distances of slices, rows and columns in mm.
            probabilities: Return the probability of each class too.
            uncertainty: Return the uncertainty too.

        Returns:
            As of `Prediction`, without the axis Z if it is a picture.

        Raises:
            DataError: The array has not such a shape or type, or a volume has no spacing.
        """
        prepared = self._prepare(image, spacing)
        prediction = self.model.predict(
            prepared.data,
            prepared.properties,
            probabilities=probabilities,
            uncertainty=uncertainty,
        )
        return self._finish(prediction, prepared)

    def _labels_of_all(
        self, images: Sequence[Picture], spacing: Sequence[float] | None
    ) -> Iterator[Labels]:
        """Yield the labels of each image; on an accelerator small ones share batches."""
        together: list[_Prepared] = []
        for number, image in enumerate(images, start=1):
            together.append(self._prepare(image, spacing))
            most = self.model.most_together(together[0].data.shape[1:])
            if len(together) >= most or number == len(images):
                given = [(prepared.data, prepared.properties) for prepared in together]
                for prediction, prepared in zip(
                    self.model.predict_together(given), together, strict=True
                ):
                    yield self._finish(prediction, prepared).labels
                together = []

    def _prepare(self, image: Picture, spacing: Sequence[float] | None) -> _Prepared:
        loaded = self._picture(image) if self.model.is_natural else self._volume(image, spacing)
        data, properties = self.model.preprocess(loaded)
        return _Prepared(data, properties, loaded.properties["spacing"])

    def _finish(self, prediction: Prediction, prepared: _Prepared) -> Prediction:
        if self.postprocessing is not None:
            labels = self.postprocessing(prediction.labels, prepared.spacing)
            prediction = replace(prediction, labels=labels)
        return _without_slices(prediction) if self.model.is_natural else prediction

    def _picture(self, image: Picture) -> LoadedCase:
        if isinstance(image, Image.Image):
            image = image.convert(PICTURE_MODES.get(image.mode, image.mode))
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3):
            raise DataError(
                "a picture has the shape (H, W) or (H, W, C)",
                where=f"array of shape {pixels.shape}",
                mend="put the channels last, and give one picture, or a list of them",
            )
        pixels = _to_8_bits(pixels) if self.model.takes_pictures else pixels.astype(np.float32)
        planes = np.moveaxis(pixels if pixels.ndim == 3 else pixels[..., None], -1, 0)
        stacked = np.ascontiguousarray(planes[:, None])
        prepared, notes = with_channels(stacked, self.model.channels, "the array given")
        return LoadedCase(prepared, {"spacing": NATURAL_SPACING}, notes=notes)

    def _volume(self, image: Picture, spacing: Sequence[float] | None) -> LoadedCase:
        voxels = np.asarray(image, np.float32)
        stacked = voxels[None] if voxels.ndim == 3 else voxels
        if stacked.ndim != 4 or len(stacked) != self.model.channels:
            raise DataError(
                f"this model takes volumes (Z, H, W) of {self.model.channels} channel(s)",
                where=f"array of shape {voxels.shape}",
                mend="put the channels first: (C, Z, H, W)",
            )
        if spacing is None or len(spacing) != 3 or min(spacing) <= 0:
            raise DataError(
                "a volume needs the distances of its slices, rows and columns in mm",
                where=f"spacing={spacing!r}",
                mend="give spacing=(z, y, x), for instance spacing=(5.0, 0.8, 0.8)",
            )
        return LoadedCase(stacked, {"spacing": tuple(float(side) for side in spacing)})


def _to_8_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"this model was trained on images of 8 bits, the array holds {pixels.dtype}",
            where=f"array of shape {pixels.shape}",
            mend="give it the values of the image file as uint8 or uint16",
        )
    return to_8_bits(pixels)


def _without_slices(prediction: Prediction) -> Prediction:
    probabilities, uncertainty = prediction.probabilities, prediction.uncertainty
    return Prediction(
        prediction.labels[0],
        None if probabilities is None else probabilities[:, 0],
        None if uncertainty is None else uncertainty[0],
    )
