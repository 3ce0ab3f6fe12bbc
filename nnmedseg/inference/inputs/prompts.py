"""Point prompts for a prediction: from a file that somebody wrote, or drawn from masks."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from nnmedseg.data.images import read_image
from nnmedseg.data.volumes import read_volume, volume_ending
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase, is_image, stem
from nnmedseg.inference.inputs.given_points import GivenPoint, read_points
from nnmedseg.nnunet.reference_prompts import prompts_for_case

if TYPE_CHECKING:
    from nnmedseg.inference.predictor import MedSegPredictor

logger = logging.getLogger(__name__)

_TURNS_AXES = "NibabelIOWithReorient"


@dataclass(frozen=True)
class PreparedCase:
    """What prompts are brought into the frame of.

    Attributes:
        case: The case.
        loaded: As it was read.
        size: Slices, height and width as preprocessed.
        properties: What preprocessing has done to it.
    """

    case: InputCase
    loaded: LoadedCase
    size: tuple[int, int, int]
    properties: Mapping[str, Any]


class Prompts(ABC):
    """Where the prompts of a prediction come from.

    Attributes:
        source: What ``predictions.json`` says about it.
    """

    source: dict[str, Any]

    @abstractmethod
    def maps(self, prepared: PreparedCase) -> torch.Tensor:
        """Return the prompts of a case as channels behind those of its image.

        Returns:
            ``(foreground classes, Z, H, W)``, see :mod:`nnmedseg.networks.prompt_maps`.

        Raises:
            DataError: There are none for this case, or they do not fit its image.
        """


class PromptsFromFile(Prompts):
    """Points that a JSON file names, in pixels of the images as they are on the disk.

    The file holds ``{case: [{"x": 120, "y": 85, "label": 1}, ...]}``: x from the left and y from
    above, from 0, ``label`` 1 on the object and 0 beside it. ``class`` says which class, from 1,
    which it is if left out, and ``z`` which slice of a volume, from 0. A class without a point in
    a slice, or in a tile of it, is taken for absent from there.

    Args:
        predictor: The model.
        path: The file.

    Raises:
        NotFoundError: There is no such file.
        DataError: It does not hold such points.
    """

    def __init__(self, predictor: MedSegPredictor, path: str | Path):
        self._predictor = predictor
        self._path = Path(path)
        self._points = read_points(self._path, predictor.prompt_channels)
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self.source = {"file": self._path.name, "sha256": digest}

    def maps(self, prepared: PreparedCase) -> torch.Tensor:
        """Return the prompts of a case; see `Prompts.maps`."""
        name = prepared.case.name
        if name not in self._points:
            raise DataError(
                f"there are no points for {name!r}",
                where=self._path,
                mend="give it points, or leave the image out",
            )
        points = self._points[name]
        inside, places = to_preprocessed(
            self._places(points, prepared.loaded.image.shape[1:]),
            prepared.size,
            prepared.properties,
            self._predictor.axes,
        )
        if not inside.all():
            logger.warning(
                "%s: %d point(s) lie in the empty frame that preprocessing cuts off",
                name,
                int((~inside).sum()),
            )
        maps = np.zeros((self._predictor.prompt_channels, *prepared.size), np.float32)
        for point, is_inside, (z, y, x) in zip(points, inside, places, strict=True):
            value = 1 if point.label else -1
            if not is_inside:
                continue
            if maps[point.class_index, z, y, x] * value < 0:
                raise DataError(
                    f"{name}: a point on the object and one beside it fall on the same pixel of "
                    f"what the network sees ({prepared.size[2]} x {prepared.size[1]})",
                    where=self._path,
                    mend=f"move or leave out one of those at x={point.x:g}, y={point.y:g}",
                )
            maps[point.class_index, z, y, x] += value
        return torch.from_numpy(maps)

    def _places(self, points: list[GivenPoint], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return ``(points, 3)``: slice, row and column on the disk."""
        slices, height, width = shape
        for point in points:
            if point.z is None and slices > 1:
                raise DataError(
                    f"a point has no z, and the image has {slices} slices",
                    where=self._path,
                    mend='give each point its slice, from 0: {"x": …, "y": …, "z": …, "label": …}',
                )
            z = point.z or 0
            if not (0 <= z < slices and 0 <= point.y <= height - 1 and 0 <= point.x <= width - 1):
                raise DataError(
                    f"the point x={point.x:g}, y={point.y:g}, z={z} is outside of the image of "
                    f"{width} x {height} pixels and {slices} slice(s)",
                    where=self._path,
                    mend="count pixels from 0, from the upper left corner",
                )
        places = [(point.z or 0, point.y, point.x) for point in points]
        return np.array(places, float).reshape(-1, 3)


class PromptsFromMasks(Prompts):
    """Points drawn from masks: predictions of an oracle where these are the references.

    They are drawn after preprocessing, the same ones for a case of the same name each time.

    Args:
        predictor: The model.
        folder: Masks with the cases' names, PNG or NIfTI.

    Raises:
        NotFoundError: There is no such folder.
    """

    def __init__(self, predictor: MedSegPredictor, folder: str | Path):
        self._predictor = predictor
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise NotFoundError(
                "there is no such folder of masks",
                where=self._folder,
                mend="check the path given with --prompts-from",
            )
        self._files = {stem(path): path for path in self._folder.iterdir() if is_image(path)}
        self.source = {"masks": self._folder.name, "points": predictor.prompt_points}

    def maps(self, prepared: PreparedCase) -> torch.Tensor:
        """Return the prompts of a case; see `Prompts.maps`."""
        name = prepared.case.name
        if name not in self._files:
            raise DataError(
                f"there is no mask for {name!r}",
                where=self._folder,
                mend="give the mask the name of the image, without a channel number",
            )
        mask = _read_mask(self._files[name], binary=self._predictor.is_binary)
        if mask.shape != prepared.loaded.image.shape[1:]:
            raise DataError(
                f"the mask is {mask.shape} (slices, rows, columns), its image "
                f"{prepared.loaded.image.shape[1:]}",
                where=self._files[name],
            )
        labels = torch.from_numpy(self._predictor.preprocess_labels(prepared.loaded, mask))
        return prompts_for_case(
            name, labels, self._predictor.label_manager, self._predictor.prompt_points
        )


def open_prompts(
    predictor: MedSegPredictor,
    file: str | Path | None = None,
    masks: str | Path | None = None,
) -> Prompts | None:
    """Return the prompts for a prediction, or ``None`` where the network finds its own or has none.

    Args:
        predictor: The model.
        file: See `PromptsFromFile`.
        masks: See `PromptsFromMasks`.

    Raises:
        UserError: The model needs prompts and gets none, or takes none and gets some.
    """
    if file is None and masks is None:
        if predictor.needs_prompts:
            raise UserError(
                "this model segments what points show it, and no points are given",
                where=predictor.model,
                mend="give points with --prompts FILE, draw them from masks with --prompts-from "
                "FOLDER_OF_MASKS, or use a model that finds its own (ProMISeTrainer)",
            )
        return None
    if not predictor.prompt_channels:
        raise UserError(
            "this model takes no prompts",
            where=predictor.model,
            mend="leave --prompts and --prompts-from out, or use a model of a ProMISe trainer",
        )
    if file is not None and masks is not None:
        raise UserError(
            "prompts come from a file or from masks, not from both",
            where="the command line",
            mend="give --prompts or --prompts-from",
        )
    reader = predictor.plans_manager.image_reader_writer_class.__name__
    if reader == _TURNS_AXES:
        raise UserError(
            "the images of this model are turned when they are read, so that pixels of a file are "
            "not those that the model sees",
            where=f"{reader} in {predictor.model / 'plans.json'}",
            mend="convert the data with another reader to use prompts",
        )
    return (
        PromptsFromMasks(predictor, masks)
        if masks is not None
        else PromptsFromFile(predictor, str(file))
    )


def to_preprocessed(
    places: npt.NDArray[np.float64],
    size: tuple[int, int, int],
    properties: Mapping[str, Any],
    axes: tuple[int, ...],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Bring places in an image as read to the one that was preprocessed.

    Args:
        places: ``(points, 3)``: slice, row and column.
        size: Of the preprocessed image.
        properties: What nnU-Net's preprocessing notes: the box that it cropped to.
        axes: The order that it brought the axes to.

    Returns:
        Which places are in that box, and the nearest pixels ``(points, 3)`` of all.
    """
    box = np.array(properties["bbox_used_for_cropping"], float)
    cropped = places[:, list(axes)] - box[:, 0]
    extent = np.array(properties["shape_after_cropping_and_before_resampling"], float)
    inside = ((cropped >= 0) & (cropped <= extent - 1)).all(axis=1)
    resized = (cropped + 0.5) * (np.array(size) / extent) - 0.5
    nearest = np.clip(np.rint(resized), 0, np.array(size) - 1)
    return inside, nearest.astype(np.int64)


def _read_mask(path: Path, *, binary: bool) -> npt.NDArray[np.int16]:
    """Read labels ``(Z, H, W)``; of a single class every value above 0 is that class."""
    if volume_ending(path):
        mask = read_volume(path).values
    else:
        mask = read_image(path)
        mask = mask[..., 0] if mask.ndim == 3 else mask
    mask = mask if mask.ndim == 3 else mask[None]
    return (mask > 0).astype(np.int16) if binary else mask.astype(np.int16)
