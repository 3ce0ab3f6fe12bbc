"""Labels of slabs of logits are those that nnU-Net makes of all of them."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from scipy.ndimage import gaussian_filter
from torch.utils._python_dispatch import TorchDispatchMode

from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.to_labels import reduction
from nnmedseg.inference.to_labels.reduction import Reduction

SCIPY = "resample_data_or_seg_to_shape"
TORCH = "resample_torch_fornnunet"
LINEAR = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
ROUNDING_TIES = 5e-4
"""Share of voxels that small volumes of float16 logits may leave undecided."""


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose compiled kernels, or PyTorch, whatever the size of the image."""
    if request.param == "compiled" and not reduction.HAVE_KERNELS:
        pytest.skip("numba is not there for this Python")
    threshold = 1 if request.param == "compiled" else 2**60
    monkeypatch.setattr(reduction, "KERNEL_NUMBERS", threshold)


@dataclass
class Case:
    """An image that a network has seen, and how it came there.

    Attributes:
        seen: Size that the network saw.
        size: Size before resampling, axes as the model has them.
        spacing: Of the image, axes as on the disk.
        planned: Spacing that the plans resample to.
        classes: Number of them, or of regions.
        margin: Voxels that were cropped away at the beginning of each axis; twice of it at the end.
        forward: The plans' order of axes.
        function: The plans' function for logits, and its settings.
        labels: Of the data set, if they are regions.
    """

    seen: tuple[int, int, int]
    size: tuple[int, int, int]
    spacing: tuple[float, ...] = (1, 1, 1)
    planned: tuple[float, ...] = (1, 1, 1)
    classes: int = 4
    margin: int = 0
    forward: tuple[int, int, int] = (0, 1, 2)
    function: tuple[str, dict[str, Any]] = (SCIPY, LINEAR)
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def properties(self) -> dict[str, Any]:
        """What preprocessing notes."""
        return {
            "spacing": self.spacing,
            "shape_before_cropping": tuple(side + 3 * self.margin for side in self.size),
            "bbox_used_for_cropping": [[self.margin, self.margin + side] for side in self.size],
            "shape_after_cropping_and_before_resampling": self.size,
        }

    @property
    def managers(self) -> tuple[PlansManager, ConfigurationManager, Any]:
        """nnU-Net's managers of plans, of the configuration and of labels."""
        name, settings = self.function
        configuration = {
            "architecture": {},
            "spacing": list(self.planned),
            "resampling_fn_probabilities": name,
            "resampling_fn_probabilities_kwargs": settings,
        }
        plans = PlansManager(
            {
                "transpose_forward": list(self.forward),
                "transpose_backward": [self.forward.index(axis) for axis in range(3)],
                "configurations": {"tested": configuration},
                "label_manager": "LabelManager",
            }
        )
        labels = self.labels or {"background": 0} | {
            f"class {n}": n for n in range(1, self.classes)
        }
        description = {"labels": labels, "regions_class_order": [1, 2]}
        return (
            plans,
            plans.get_configuration("tested"),
            plans.get_label_manager(description),
        )

    def logits(self, kind: torch.dtype = torch.float16) -> torch.Tensor:
        """Smooth noise ``(K, Z, H, W)``, so that classes have borders as in anatomy."""
        random = np.random.default_rng(0)
        noise = random.standard_normal((self.classes, *self.seen))
        sigmas = (0, *(min(2, side / 8) for side in self.seen))
        smooth = gaussian_filter(noise, sigmas)
        return torch.from_numpy(5 * smooth / smooth.std()).to(kind)

    def expected(self, logits: torch.Tensor, *, probabilities: bool = False) -> Any:
        """What nnU-Net's own export makes of it."""
        plans, configuration, labels = self.managers
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.clone(),
            plans,
            configuration,
            labels,
            self.properties,
            return_probabilities=probabilities,
            num_threads_torch=1,
        )

    def reduce(
        self, logits: torch.Tensor, thickness: Sequence[int] = (), **options: Any
    ) -> Prediction:
        """What the reduction makes of slabs of these rows each, the last of all that are left."""
        means = torch.softmax(logits.float(), 0)
        if self.labels:
            means = torch.sigmoid(logits.float())
        slabs = Reduction(self.properties, *self.managers, preprocessed_shape=self.seen, **options)
        rows = self.seen[slabs.axis]
        bounds = [0, *np.cumsum(thickness), rows]
        for start, stop in itertools.pairwise(bounds):
            slab = (slice(None),) * (1 + slabs.axis) + (slice(start, stop),)
            given = (means[slab],) if options.get("uncertainty") else ()
            slabs.add(logits[slab], *given)
        return slabs.finish()


PHOTOGRAPH = Case((1, 64, 80), (1, 150, 190), (999, 1, 1), (1, 1), classes=2)
RESAMPLED = {
    "photograph": PHOTOGRAPH,
    "photograph made smaller": Case((1, 90, 70), (1, 40, 31), (999, 1, 1), (1, 1), classes=3),
    "isotropic": Case((20, 24, 28), (31, 40, 37), planned=(1.5, 1.5, 1.5)),
    "isotropic made smaller": Case((30, 36, 33), (17, 20, 24), planned=(0.6, 0.6, 0.6)),
    "slices apart along z": Case((12, 24, 28), (17, 40, 37), (5, 1, 1), (4, 1.5, 1.5)),
    "slices apart along y": Case((24, 9, 28), (40, 13, 37), (1, 5, 1), (1.5, 4, 1.5)),
    "slices apart along x": Case((24, 28, 9), (40, 37, 13), (1, 1, 5), (1.5, 1.5, 4)),
    "slices apart, as many": Case((9, 24, 28), (9, 40, 37), (5, 1, 1), (5, 1.5, 1.5)),
    "fewer slices, apart": Case((19, 24, 28), (7, 40, 37), (5, 1, 1), (2, 1.5, 1.5)),
    "interpolated between slices": Case(
        (12, 24, 28),
        (17, 40, 37),
        (5, 1, 1),
        (4, 1.5, 1.5),
        function=(SCIPY, LINEAR | {"order_z": 1}),
    ),
    "forced apart": Case(
        (12, 24, 28),
        (17, 40, 37),
        (2, 1, 1),
        (1.9, 1.5, 1.5),
        function=(SCIPY, LINEAR | {"force_separate_z": True}),
    ),
    "one slice of a volume": Case((1, 24, 28), (3, 40, 37), (2, 1, 1), (6, 1.5, 1.5)),
    "transposed": Case(
        (12, 24, 28), (17, 40, 37), (1, 5, 1), (4, 1.5, 1.5), margin=3, forward=(1, 2, 0)
    ),
    "cropped": Case((20, 24, 28), (31, 40, 37), planned=(1.5, 1.5, 1.5), margin=2),
    "regions": Case((20, 24, 28), (31, 40, 37), classes=2, margin=2, labels=REGIONS),
    "by torch": Case((20, 24, 28), (31, 40, 37), function=(TORCH, {})),
    "by torch, slices apart": Case(
        (12, 24, 28), (17, 40, 37), (5, 1, 1), (4, 1.5, 1.5), function=(TORCH, {})
    ),
    "many classes": Case((10, 12, 14), (20, 24, 28), classes=300),
}


@pytest.mark.parametrize("kind", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", RESAMPLED)
def test_labels_are_those_of_nnunet(name: str, kind: torch.dtype) -> None:
    case = RESAMPLED[name]
    logits = case.logits(kind)
    expected = case.expected(logits)
    labels = case.reduce(logits, [3, 1, 2]).labels
    assert labels.dtype == expected.dtype
    assert labels.shape == expected.shape
    assert len(np.unique(expected)) > 1
    assert (labels != expected).mean() <= (ROUNDING_TIES if kind == torch.float16 else 1e-4)


UNCHANGED = {
    "photograph": Case((1, 64, 80), (1, 64, 80), (999, 1, 1), (1, 1), classes=2),
    "volume": Case((20, 24, 28), (20, 24, 28), margin=2, forward=(2, 0, 1)),
    "regions": Case((20, 24, 28), (20, 24, 28), classes=2, labels=REGIONS),
}


@pytest.mark.parametrize("kind", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", UNCHANGED)
def test_labels_are_equal_where_nothing_is_resampled(name: str, kind: torch.dtype) -> None:
    case = UNCHANGED[name]
    logits = case.logits(kind).round(decimals=1)  # with ties
    np.testing.assert_array_equal(case.reduce(logits, [5]).labels, case.expected(logits))


@pytest.mark.parametrize("name", ["photograph", "isotropic made smaller", "transposed", "regions"])
@pytest.mark.parametrize("thickness", [[1] * 8, [0, 7, 1], [2, 0, 9]], ids=str)
def test_thickness_of_slabs_does_not_matter(name: str, thickness: list[int]) -> None:
    case = RESAMPLED[name]
    logits = case.logits()
    whole = case.reduce(logits, probabilities=True, uncertainty=True)
    slabs = case.reduce(logits, thickness, probabilities=True, uncertainty=True)
    np.testing.assert_array_equal(slabs.labels, whole.labels)
    np.testing.assert_array_equal(slabs.probabilities, whole.probabilities)
    np.testing.assert_array_equal(slabs.uncertainty, whole.uncertainty)


@pytest.mark.parametrize(
    "function",
    [
        (SCIPY, LINEAR | {"order": 3}),
        (SCIPY, {"is_seg": False}),
        (TORCH, {"mode": "nearest-exact", "force_separate_z": True}),
    ],
    ids=str,
)
def test_unknown_resampling_is_left_to_nnunet(function: tuple[str, dict[str, Any]]) -> None:
    case = Case((12, 24, 28), (17, 40, 37), (5, 1, 1), (4, 1.5, 1.5), margin=2, function=function)
    logits = case.logits()
    prediction = case.reduce(logits, [3, 4], probabilities=True)
    labels, probabilities = case.expected(logits, probabilities=True)
    np.testing.assert_array_equal(prediction.labels, labels)
    assert prediction.probabilities is not None
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-3)


@pytest.mark.parametrize("name", ["photograph", "cropped", "transposed", "regions", "by torch"])
def test_probabilities_are_those_of_nnunet(name: str) -> None:
    case = RESAMPLED[name]
    logits = case.logits(torch.float32)
    probabilities = case.reduce(logits, [2, 5], probabilities=True).probabilities
    assert probabilities is not None
    assert probabilities.dtype == np.float16
    _, expected = case.expected(logits, probabilities=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["photograph", "cropped", "transposed", "regions"])
def test_uncertainty_is_the_entropy_of_resampled_means(name: str) -> None:
    case = RESAMPLED[name]
    logits = case.logits(torch.float32)
    means = torch.sigmoid(logits) if case.labels else torch.softmax(logits, 0)
    plans, configuration, _ = case.managers
    properties = case.properties
    resampled = configuration.resampling_fn_probabilities(
        means,
        case.size,
        [case.spacing[0], *case.planned][-3:],
        [case.spacing[axis] for axis in case.forward],
    )
    resampled = resampled.astype(float).clip(1e-12, 1 - 1e-12)
    if case.labels:
        entropy = -(resampled * np.log2(resampled) + (1 - resampled) * np.log2(1 - resampled))
        entropy = entropy.mean(0)
    else:
        entropy = -(resampled * np.log(resampled)).sum(0) / np.log(case.classes)
    expected = np.zeros(properties["shape_before_cropping"])
    box = tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])
    expected[box] = entropy
    uncertainty = case.reduce(logits, [2, 5], uncertainty=True).uncertainty
    assert uncertainty is not None
    assert uncertainty.dtype == np.float16
    np.testing.assert_allclose(uncertainty, expected.transpose(plans.transpose_backward), atol=1e-3)


def test_undecided_is_one_and_certain_is_zero() -> None:
    case = Case((1, 4, 8), (1, 4, 8), (999, 1, 1), (1, 1), classes=3)
    logits = torch.zeros(3, 1, 4, 8)
    logits[1, :, :, 4:] = 1e4
    uncertainty = case.reduce(logits, uncertainty=True).uncertainty
    assert uncertainty is not None
    np.testing.assert_array_equal(uncertainty[0, :, :4], 1)
    np.testing.assert_array_equal(uncertainty[0, :, 4:], 0)


UNKNOWN = Case((12, 24, 28), (17, 40, 37), margin=2, function=(SCIPY, LINEAR | {"order": 3}))


@pytest.mark.parametrize(
    "case", [PHOTOGRAPH, RESAMPLED["isotropic"], UNKNOWN], ids=["2D", "3D", "unknown"]
)
def test_given_memory_may_be_used_again(case: Case) -> None:
    logits = case.logits()
    slabs = Reduction(case.properties, *case.managers, preprocessed_shape=case.seen)
    rows = logits.movedim(1 + slabs.axis, 1)
    memory = torch.empty_like(rows[:, :3])
    for start in range(0, rows.shape[1], 3):
        part = memory[:, : min(3, rows.shape[1] - start)]
        part.copy_(rows[:, start : start + 3])
        slabs.add(part.movedim(1, 1 + slabs.axis))
        memory.fill_(-1e4)
    np.testing.assert_array_equal(slabs.finish().labels, case.reduce(logits).labels)


def test_missing_rows_are_noticed() -> None:
    case = RESAMPLED["isotropic"]
    slabs = Reduction(case.properties, *case.managers, preprocessed_shape=case.seen)
    slabs.add(case.logits()[:, :5])
    with pytest.raises(ValueError, match="5 rows of 20"):
        slabs.finish()


def test_too_many_rows_are_noticed() -> None:
    case = RESAMPLED["isotropic"]
    slabs = Reduction(case.properties, *case.managers, preprocessed_shape=case.seen)
    slabs.add(case.logits())
    with pytest.raises(ValueError, match="21 rows of 20"):
        slabs.add(case.logits()[:, :1])


def test_uncertainty_needs_means() -> None:
    case = PHOTOGRAPH
    slabs = Reduction(
        case.properties, *case.managers, preprocessed_shape=case.seen, uncertainty=True
    )
    with pytest.raises(ValueError, match="mean_probabilities"):
        slabs.add(case.logits())


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest result of a PyTorch operation has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view:
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("seen", [(48, 64, 64), (24, 32, 32)], ids=["unchanged", "resampled"])
@pytest.mark.parametrize("wanted", [(), ("probabilities", "uncertainty")], ids=["labels", "all"])
def test_logits_at_full_size_are_never_held_at_once(
    seen: tuple[int, int, int], wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, "BLOCK_NUMBERS", 2**14)
    case = Case(seen, (48, 64, 64), classes=40)
    logits = torch.randn(40, *seen).half()
    options: dict[str, Any] = dict.fromkeys(wanted, True)
    case.reduce(logits, **options)  # compiles, which takes memory of its own
    tracemalloc.start()  # sees NumPy's arrays
    with LargestTensor() as largest:
        slabs = Reduction(case.properties, *case.managers, preprocessed_shape=seen, **options)
        for start in range(0, seen[0], 2):
            slabs.add(logits[:, start : start + 2], logits[:, start : start + 2])
        result = slabs.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    outputs = (result.labels, result.probabilities, result.uncertainty)
    kept = sum(array.nbytes for array in outputs if array is not None)
    numbers = 40 * 48 * 64 * 64
    assert largest.numbers < numbers / 8
    assert peak - kept < numbers * 2 / 8


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_labels(threads: int) -> None:
    case = RESAMPLED["isotropic"]
    logits = case.logits()
    expected = case.expected(logits)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        labels = case.reduce(logits, [7]).labels
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("name", ["photograph", "isotropic", "unchanged"])
def test_any_strides_of_slabs_are_read(name: str) -> None:
    case = (RESAMPLED | {"unchanged": UNCHANGED["volume"]})[name]
    logits = case.logits()
    last = logits.movedim(0, -1).contiguous().movedim(-1, 0)
    inside = torch.zeros(tuple(side + 3 for side in logits.shape), dtype=logits.dtype)
    part = inside[tuple(slice(2, 2 + side) for side in logits.shape)]
    part.copy_(logits)
    expected = case.reduce(logits, [3]).labels
    np.testing.assert_array_equal(case.reduce(last, [3]).labels, expected)
    np.testing.assert_array_equal(case.reduce(part, [3]).labels, expected)
