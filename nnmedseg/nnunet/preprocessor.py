"""nnU-Net's preprocessing, with images brought to the size that a configuration names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnmedseg.data.class_locations import classes_to_locate
from nnmedseg.data.released_input import prepare_as_released
from nnmedseg.data.resizing import resize, resize_labels, working_shape

_Image = npt.NDArray[np.float32]


class MedSegPreprocessor(DefaultPreprocessor):
    """Brings each image to the ``input`` that its configuration names under ``nnmedseg``.

    ``{"shorter_side": 512}`` is nnU-Net's own preprocessing, but for the size, which each image
    reaches by a factor of its own, anti-aliased. ``{"size": ..., "resize": ..., "intensity": ...}``
    is the input of a paper: see :mod:`nnmedseg.data.released_input`. Without such a key nothing
    differs from nnU-Net. Predictions come back at the image's own size through nnU-Net's export,
    for which the returned properties are the same.
    """

    def run_case_npy(  # noqa: PLR0917 - nnU-Net's signature
        self,
        data: npt.NDArray[Any],
        seg: npt.NDArray[Any] | None,
        properties: dict[str, Any],
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict[str, Any],
    ) -> tuple[_Image, npt.NDArray[np.integer], dict[str, Any]]:
        """Preprocess an image as nnU-Net's method of this name does.

        Args:
            data: ``(C, Z, H, W)``.
            seg: ``(1, Z, H, W)``, or ``None`` where there is no mask.
            properties: ``spacing`` of the image; more is added.
            plans_manager: The plans.
            configuration_manager: The configuration.
            dataset_json: Labels of the data set.

        Returns:
            Image, labels (-1 outside of the image, which alone is told where there is no mask) and
            properties.
        """
        given = configuration_manager.configuration.get("nnmedseg", {}).get("input")
        if given is not None and "size" in given:
            return self._squash(
                data,
                seg,
                properties,
                order=[0, *(axis + 1 for axis in plans_manager.transpose_forward)],
                labels=dataset_json["labels"],
                given=given,
            )
        if given is not None:
            configuration_manager = _WithWorkingShape(
                configuration_manager.configuration, given["shorter_side"]
            )
        return super().run_case_npy(
            data, seg, properties, plans_manager, configuration_manager, dataset_json
        )

    def _squash(
        self,
        data: npt.NDArray[Any],
        seg: npt.NDArray[Any] | None,
        properties: dict[str, Any],
        *,
        order: list[int],
        labels: dict[str, Any],
        given: dict[str, Any],
    ) -> tuple[_Image, npt.NDArray[np.integer], dict[str, Any]]:
        image = data.astype(np.float32).transpose(order)
        pixels, back = prepare_as_released(image, properties, **given)
        properties.update(back)
        if seg is None:
            return pixels, np.zeros((1, *pixels.shape[1:]), np.int8), properties
        height, width = given["size"]
        resized = _resize_slices(seg.transpose(order), (height, width))
        properties["class_locations"] = self._sample_foreground_locations(
            resized, classes_to_locate(labels), verbose=self.verbose
        )
        return pixels, resized.astype(np.int8 if resized.max() <= 127 else np.int16), properties


class _WithWorkingShape(ConfigurationManager):
    """A configuration whose resampling brings each image to its own working shape."""

    def __init__(self, configuration: dict[str, Any], shorter_side: int):
        super().__init__(configuration)
        self._shorter_side = shorter_side

    @property
    def resampling_fn_data(self) -> Any:
        return lambda data, *_: resize(data, working_shape(data.shape[2:], self._shorter_side))

    @property
    def resampling_fn_seg(self) -> Any:
        return lambda seg, *_: _resize_slices(seg, working_shape(seg.shape[2:], self._shorter_side))


def _resize_slices(
    labels: npt.NDArray[np.integer], size: tuple[int, int]
) -> npt.NDArray[np.integer]:
    """Resize labels ``(1, Z, H, W)`` slice by slice."""
    return np.stack([resize_labels(one.astype(np.int16), size) for one in labels[0]])[None]
