"""Post-processing that a model's cross-validation has shown to help, applied to label maps."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnmedseg.errors import DataError
from nnmedseg.files import read_json
from nnmedseg.inference.postprocessing.mask_steps import STEPS, Mask, box_around

logger = logging.getLogger(__name__)

POSTPROCESSING_FILE = "postprocessing.json"
FORMAT_VERSION = 1
SUMMARY = Path("validation") / "summary.json"

LabelMap = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Step:
    """One thing to do to the mask of a label.

    Attributes:
        name: One of :data:`nnmedseg.inference.postprocessing.mask_steps.STEPS`.
        size: Smallest size of a region, or radius of a kernel, in units of the spacing (squared or
            cubed for sizes); 0 where the step needs no number.
    """

    name: str
    size: float = 0.0

    def __call__(self, mask: Mask, spacing: Sequence[float]) -> Mask:
        """Return the changed mask."""
        return STEPS[self.name](mask, spacing, self.size)


@dataclass(frozen=True)
class Target:
    """A label, or a region of several, that steps are done to.

    Attributes:
        labels: The label, or those that make up the region.
        inside: What pixels become that a step adds.
        outside: What pixels become that a step removes: background or, of a region within another
            one, what that is without it. Only pixels of background and this may be added.
    """

    labels: tuple[int, ...]
    inside: int
    outside: int = 0

    @property
    def name(self) -> str:
        """The label or labels, as files name them."""
        return ",".join(map(str, self.labels))

    def mask_in(self, labels: npt.NDArray[np.integer]) -> Mask:
        """Return where the label or region is."""
        return _is_one_of(labels, self.labels)

    def free_in(self, labels: npt.NDArray[np.integer]) -> Mask:
        """Return where a step may add pixels."""
        return _is_one_of(labels, tuple({0, self.outside}))


@dataclass(frozen=True)
class TargetSteps:
    """What is done to one target, in this order."""

    target: Target
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class PostProcessing:
    """The steps for each label.

    A step on one label never overwrites another: it removes pixels to the background, and adds
    those that were background before any step.

    Attributes:
        dimensions: 2 where each slice is an image of its own, 3 for volumes.
        unit: ``"px"`` or ``"mm"``, what the spacing is in.
        targets: The labels that something is done to, with their steps.
    """

    dimensions: int
    unit: str
    targets: tuple[TargetSteps, ...] = field(default=())

    @classmethod
    def from_model(cls, model: str | Path) -> PostProcessing | None:
        """Return what helped on the cross-validation of a model folder, ``None`` if nothing did.

        ``None`` too, with a warning, where a fold was validated anew since: what helped the weights
        of that time may harm those of now.

        Raises:
            DataError: ``postprocessing.json`` is damaged or of a version that is not known.
        """
        file = Path(model) / POSTPROCESSING_FILE
        if not file.is_file():
            return None
        try:
            content = read_json(file)
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"version {content['format_version']!r} is not known")
            found = cls.from_dict(content)
            changed = _changed_folds(Path(model), content["folds"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the post-processing cannot be read: {error}",
                where=file,
                mend="learn it anew with nnmedseg_find_postprocessing, or remove the file",
            ) from error
        if changed:
            logger.warning(
                "The post-processing of %s is left out: it was learnt on another validation of "
                "fold %s. Learn it anew with nnmedseg_find_postprocessing",
                Path(model).name,
                ", ".join(changed),
            )
            return None
        return found if found.targets else None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PostProcessing:
        """Return what `describe` has described.

        Raises:
            KeyError: Something is missing.
            ValueError: There is no such step.
        """
        targets = []
        for entry in content["targets"]:
            steps = tuple(Step(step["name"], float(step["size"])) for step in entry["steps"])
            unknown = [step.name for step in steps if step.name not in STEPS]
            if unknown:
                raise ValueError(f"there is no step {unknown[0]!r}")
            target = Target(tuple(entry["labels"]), entry["inside"], entry["outside"])
            targets.append(TargetSteps(target, steps))
        return cls(content["dimensions"], content["unit"], tuple(targets))

    def describe(self) -> dict[str, Any]:
        """Return the steps as plain values, for manifests and files."""
        targets = [
            {
                "labels": list(each.target.labels),
                "inside": each.target.inside,
                "outside": each.target.outside,
                "steps": [asdict(step) for step in each.steps],
            }
            for each in self.targets
        ]
        return {"dimensions": self.dimensions, "unit": self.unit, "targets": targets}

    def __call__(self, labels: LabelMap, spacing: Sequence[float]) -> LabelMap:
        """Return a post-processed copy of a label map.

        Args:
            labels: ``(Z, H, W)``, of whole numbers.
            spacing: Distance of pixels along these three axes.
        """
        result = labels.copy()
        if self.dimensions == 3:
            self._process(labels, result, spacing)
        else:
            for before, after in zip(labels, result, strict=True):
                self._process(before, after, spacing[1:])
        return result

    def _process(self, before: LabelMap, after: LabelMap, spacing: Sequence[float]) -> None:
        """Change ``after``, a copy of ``before``, in place."""
        boxes = ndimage.find_objects(before)
        for each in self.targets:
            target = each.target
            own = [boxes[label - 1] for label in target.labels if label <= len(boxes)]
            box = box_around([found for found in own if found is not None], before.shape)
            if box is None:
                continue
            current = after[box]
            old = target.mask_in(current)
            free = target.free_in(before[box]) & target.free_in(current)
            new = run(each.steps, old, free, spacing)
            current[old & ~new] = target.outside
            current[new & ~old] = target.inside


def run(steps: Sequence[Step], mask: Mask, free: Mask, spacing: Sequence[float]) -> Mask:
    """Do one step after the other, each adding pixels only where that is free."""
    allowed = mask | free
    for step in steps:
        mask = step(mask, spacing) & allowed
    return mask


def targets_of(label_manager: Any) -> list[Target]:
    """Return the foreground labels of nnU-Net's label manager, or its regions."""
    if not label_manager.has_regions:
        return [Target((int(label),), int(label)) for label in label_manager.foreground_labels]
    regions = [
        tuple(map(int, np.atleast_1d(region))) for region in label_manager.foreground_regions
    ]
    written = list(map(int, label_manager.regions_class_order))
    targets = []
    for region, inside in zip(regions, written, strict=True):
        around = [
            (len(other), label)
            for other, label in zip(regions, written, strict=True)
            if set(other) > set(region) and label not in region
        ]
        targets.append(Target(region, inside, min(around)[1] if around else 0))
    return targets


def _is_one_of(array: npt.NDArray[np.integer], labels: tuple[int, ...]) -> Mask:
    return array == labels[0] if len(labels) == 1 else np.isin(array, labels)


def hash_of_validation(summary: Path) -> str:
    """Return the SHA-256 of the metrics in nnU-Net's ``summary.json``, whatever the files' paths.

    Whoever hands a model on takes the paths out.
    """
    content = read_json(summary)
    metrics = [
        content.get("foreground_mean"),
        content.get("mean"),
        *(case.get("metrics") for case in content.get("metric_per_case", [])),
    ]
    return hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()


def _changed_folds(model: Path, folds: dict[str, Any]) -> list[str]:
    """Return the folds whose validation is not that of the time; what is not there does not count.

    A model that was handed on without its validation has no other weights for that.
    """
    return [
        fold
        for fold, facts in folds.items()
        if (model / f"fold_{fold}" / SUMMARY).is_file()
        and hash_of_validation(model / f"fold_{fold}" / SUMMARY) != facts["validation_sha256"]
    ]
