"""How nnU-Net's export resamples logits, axis by axis, as its plans say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch.nn import functional

from nnmedseg.nnunet._grid_positions import linear_taps, picked_taps

_SCIPY = "resample_data_or_seg_to_shape"
_TORCH = "resample_torch_fornnunet"

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    _SCIPY: {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": False,
        "separate_z_anisotropy_threshold": ANISO_THRESHOLD,
    },
    _TORCH: {
        "is_seg": False,
        "force_separate_z": None,
        "separate_z_anisotropy_threshold": ANISO_THRESHOLD,
        "mode": "linear",
        "aniso_axis_mode": "nearest-exact",
    },
}
"""Of the functions' settings that matter."""
_WITHOUT_INFLUENCE = {"num_threads", "memefficient_seg_resampling"}
"""Settings of `_TORCH` that change nothing about logits."""


@dataclass(frozen=True)
class AxisTaps:
    """Of which two voxels each voxel of a resized axis is made, and how.

    Attributes:
        first: (N,) int64.
        second: (N,) int64, not before ``first``.
        weights: (N,) float32, of ``second``; ``first`` has the rest of 1.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    @classmethod
    def linear(cls, old: int, new: int) -> AxisTaps:
        """Interpolate between voxels' centres; beyond the border its voxel goes on."""
        if old == new:
            return cls.picked(np.arange(old))
        taps = linear_taps(old, new)
        weights = taps.weights[:, 1].astype(np.float32)
        return cls(taps.starts, taps.starts + (weights > 0), weights)

    @classmethod
    def picked(cls, places: npt.NDArray[np.int64]) -> AxisTaps:
        """Take one voxel for each."""
        return cls(places, places, np.zeros(len(places), np.float32))

    def __len__(self) -> int:
        """Return the new length of the axis."""
        return len(self.first)

    def __getitem__(self, part: slice) -> AxisTaps:
        """Return those of a part of the resized axis."""
        return AxisTaps(self.first[part], self.second[part], self.weights[part])

    def shifted(self, by: int) -> AxisTaps:
        """Return the same with the original voxels numbered anew."""
        return AxisTaps(self.first + by, self.second + by, self.weights)

    @property
    def extent(self) -> slice:
        """Which of the original voxels are needed."""
        return slice(int(self.first[0]), int(self.second[-1]) + 1)

    @property
    def interpolates(self) -> bool:
        """Whether any voxel is made of more than one."""
        return bool(self.weights.any())

    def is_identity(self, old: int) -> bool:
        """Say whether an axis of this length stays what it is."""
        return not self.interpolates and np.array_equal(self.first, np.arange(old))


@dataclass(frozen=True)
class Spacings:
    """Distances of voxels (z, y, x), in the order of axes that the model works in.

    Attributes:
        preprocessed: Of what the network sees.
        original: Of the image.
    """

    preprocessed: tuple[float, ...]
    original: tuple[float, ...]

    @classmethod
    def of(
        cls,
        properties: Mapping[str, Any],
        plans: PlansManager,
        configuration: ConfigurationManager,
    ) -> Spacings:
        """Read them as nnU-Net's export does: a 2D configuration says nothing about slices."""
        original = tuple(float(properties["spacing"][axis]) for axis in plans.transpose_forward)
        planned = tuple(configuration.spacing)
        missing = len(properties["shape_after_cropping_and_before_resampling"]) - len(planned)
        return cls((*original[:missing], *planned), original)


class Resampling(NamedTuple):
    """What a resampling function does to logits.

    Attributes:
        taps: Of z, y and x.
        keeps_type: Whether the result is rounded to the type of the logits; else it is float32.
    """

    taps: tuple[AxisTaps, ...]
    keeps_type: bool


def read_resampling(
    configuration: ConfigurationManager,
    spacings: Spacings,
    old: Sequence[int],
    new: Sequence[int],
) -> Resampling | None:
    """Return what the plans' ``resampling_fn_probabilities`` does to each axis.

    Args:
        configuration: Names the function and its settings.
        spacings: Decide whether one axis is resampled apart from the others.
        old: Shape that the network saw (z, y, x).
        new: Shape to resample to.

    Returns:
        The taps, or ``None`` for a function or settings whose result is not of this kind.
    """
    name = configuration.configuration["resampling_fn_probabilities"]
    given = configuration.configuration["resampling_fn_probabilities_kwargs"]
    defaults = _DEFAULTS.get(name, {})
    settings = {**defaults, **given}
    if not defaults or settings["is_seg"] or settings.keys() - defaults.keys() - _WITHOUT_INFLUENCE:
        return None
    if tuple(old) == tuple(new):
        return Resampling(tuple(AxisTaps.linear(size, size) for size in old), keeps_type=True)
    apart = _axis_apart(settings, spacings)
    along_apart = None
    if name == _SCIPY and settings["order"] == 1:
        along_apart = _SCIPY_APART.get(settings["order_z"])
    elif name == _TORCH and (apart is None or settings["mode"] == "linear"):
        along_apart = _TORCH_APART.get(settings["aniso_axis_mode"])
    if along_apart is None:
        return None
    taps = tuple(
        along_apart(*sizes) if axis == apart else AxisTaps.linear(*sizes)
        for axis, sizes in enumerate(zip(old, new, strict=True))
    )
    return Resampling(taps, keeps_type=name == _SCIPY)


def _axis_apart(settings: Mapping[str, Any], spacings: Spacings) -> int | None:
    separately, axis = determine_do_sep_z_and_axis(
        settings["force_separate_z"],
        spacings.preprocessed,
        spacings.original,
        settings["separate_z_anisotropy_threshold"],
    )
    return int(axis) if separately and axis is not None else None


def _nearest_as_scipy(old: int, new: int) -> AxisTaps:
    return AxisTaps.picked(picked_taps(old, new).starts)


def _nearest_as_torch(old: int, new: int) -> AxisTaps:
    places = torch.arange(old, dtype=torch.float32)[None, None]
    nearest = functional.interpolate(places, new, mode="nearest-exact")[0, 0]
    return AxisTaps.picked(nearest.numpy().astype(np.int64))


_SCIPY_APART = {0: _nearest_as_scipy, 1: AxisTaps.linear}
_TORCH_APART = {"nearest-exact": _nearest_as_torch, "linear": AxisTaps.linear}


def interpolate(logits: torch.Tensor, taps: Sequence[AxisTaps]) -> torch.Tensor:
    """Resample logits, one axis after the other.

    Args:
        logits: ``(K, Z, Y, X)``.
        taps: Of z, y and x.

    Returns:
        ``(K, Z', Y', X')``, float32.
    """
    box = (slice(None), *(part.extent for part in taps))
    values = logits[box].float().numpy()
    for axis, part in enumerate(taps, start=1):
        first = part.first - part.first[0]
        lower = values
        if not np.array_equal(first, np.arange(values.shape[axis])):
            lower = values.take(first, axis)  # NumPy's is many times faster than PyTorch's
        if part.interpolates:
            upper = values.take(part.second - part.first[0], axis)
            upper -= lower
            upper *= np.expand_dims(part.weights, [i for i in range(4) if i != axis])
            upper += lower
            lower = upper
        values = lower
    return torch.from_numpy(values)


def find_largest(logits: torch.Tensor) -> npt.NDArray[np.int16]:
    """Return the first class with the largest logit, of ``(K, ...)`` float32."""
    best, *others = logits.numpy()
    best = best.copy()
    winners = np.zeros(best.shape, np.int16)
    for number, values in enumerate(others, start=1):
        np.copyto(winners, number, where=values > best)
        np.maximum(best, values, out=best)
    return winners
