"""Whether an image can be predicted in the memory that there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmedseg.errors import DataError
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.inference.inputs.memory import estimate_memory

if TYPE_CHECKING:
    from nnmedseg.inference.outputs.chosen import Outputs
    from nnmedseg.inference.predictor import MedSegPredictor

GIB = 2**30
MEMORY_FACTS = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
_FLOAT16 = 2


def available_memory() -> int | None:
    """Return how many bytes this process can still take, or ``None`` where no one tells.

    It is what Linux says is free or can be freed, and what a container's limit leaves of it.
    """
    try:
        facts = dict(line.split(":", 1) for line in MEMORY_FACTS.read_text("ascii").splitlines())
        available = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int((GROUP / "memory.max").read_text())
        used = int((GROUP / "memory.current").read_text())
        details = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or one without a limit
        return available
    # Files that were read are counted as used, and let go of when memory is needed.
    return min(available, limit - used + int(details.get("inactive_file", 0)))


def check_input_memory(predictor: MedSegPredictor, case: InputCase) -> None:
    """Refuse an image that, by its header, cannot be read and preprocessed in the memory.

    Raises:
        DataError: It does not fit.
    """
    available = available_memory()
    needed = estimate_memory(case, predictor)
    if available is not None and needed is not None and needed > available:
        raise DataError(
            f"reading it takes about {needed / GIB:.1f} GiB beside the network, and "
            f"{available / GIB:.1f} GiB are left",
            where=case.files[0],
            mend="predict it on a machine with more memory",
        )


def check_memory(
    predictor: MedSegPredictor,
    shape: Sequence[int],
    properties: Mapping[str, Any],
    outputs: Outputs,
    *,
    besides: int = 0,
) -> None:
    """Refuse an image whose logits and labels do not fit into the memory.

    Args:
        predictor: The model.
        shape: Slices, height and width of the preprocessed image.
        properties: What preprocessing notes: the image's own shape.
        outputs: What is wanted.
        besides: Bytes that something else of this image will take.

    Raises:
        DataError: They do not fit.
    """
    available = available_memory()
    needed = memory_needed(predictor, shape, properties, outputs) + besides
    if available is not None and needed > available:
        raise DataError(
            f"predicting it takes about {needed / GIB:.1f} GiB beside the network, and "
            f"{available / GIB:.1f} GiB are left",
            mend="predict it on a machine with more memory"
            + (", or without --probabilities and --uncertainty" if outputs.is_large else "")
            + (", or with fewer folds" if len(predictor.folds) > 1 else ""),
        )


def memory_needed(
    predictor: MedSegPredictor,
    shape: Sequence[int],
    properties: Mapping[str, Any],
    outputs: Outputs,
) -> int:
    """Return about how many bytes an image takes from logits to labels; see `check_memory`."""
    voxels = math.prod(properties["shape_before_cropping"])
    heads = predictor.label_manager.num_segmentation_heads
    of_each = 1 + len(predictor.label_manager.foreground_labels) // 255
    of_each += _FLOAT16 * (heads * (outputs.probabilities is not None) + outputs.uncertainty)
    return predictor.memory_needed(shape, uncertainty=outputs.uncertainty) + voxels * of_each
