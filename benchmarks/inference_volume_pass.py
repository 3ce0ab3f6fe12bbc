"""One side of ``inference_volume.py``, in a process whose memory is limited."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OUT_OF_MEMORY = 3
SMOOTH, ROUGH = 16, 0.1
"""Voxels between independent logits, and the deviation of what is added to each voxel's."""
DEVIATION, BACKGROUND_LEAD = 5, 5
SLAB = 8
"""Slices that ours is given at a time."""


def make_logits(path: Path, classes: int, seen: tuple[int, ...]) -> None:
    """Write logits ``(classes, z, y, x)`` float16, class by class."""
    import torch  # noqa: PLC0415 - after the memory is limited

    random = torch.Generator().manual_seed(0)
    coarse = tuple(2 + side // SMOOTH for side in seen)
    with path.open("wb") as file:
        for number in range(classes):
            noise = DEVIATION * torch.randn((1, 1, *coarse), generator=random)
            logits = torch.nn.functional.interpolate(noise, seen, mode="trilinear")
            logits += ROUGH * torch.randn(logits.shape, generator=random)
            logits += 0 if number else BACKGROUND_LEAD
            file.write(logits.half().numpy().tobytes())


def read_slab(path: Path, classes: int, seen: tuple[int, ...], start: int, stop: int) -> Any:
    """Read slices of all classes; a mapped file would count as memory."""
    plane = math.prod(seen[1:])
    slab = np.empty((classes, stop - start, *seen[1:]), np.float16)
    with path.open("rb", buffering=0) as file:
        for number, part in enumerate(slab):
            file.seek(2 * plane * (number * seen[0] + start))
            file.readinto(memoryview(part).cast("B"))
    return slab


def managers(classes: int) -> tuple[Any, Any, Any]:
    """nnU-Net's plans, configuration and labels for a CT planned at 1.5 mm."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    settings = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {},
        "spacing": [1.5, 1.5, 1.5],
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": settings,
    }
    plans = PlansManager(
        {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "label_manager": "LabelManager",
            "configurations": {"3d": configuration},
        }
    )
    labels = {"background": 0, **{f"organ {n}": n for n in range(1, classes)}}
    return plans, plans.get_configuration("3d"), plans.get_label_manager({"labels": labels})


def describe(seen: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Any]:
    """What preprocessing notes about a volume that nothing is cropped from."""
    return {
        "spacing": [1.5 * old / new for old, new in zip(seen, shape, strict=True)],
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, side] for side in shape],
        "shape_after_cropping_and_before_resampling": shape,
    }


def export_by_nnunet(given: dict[str, Any], path: Path) -> tuple[float, np.ndarray]:
    """Return the seconds that nnU-Net takes once it is warm, and its labels."""
    import torch  # noqa: PLC0415 - after the memory is limited
    from nnunetv2.inference.export_prediction import (  # noqa: PLC0415
        convert_predicted_logits_to_segmentation_with_correct_shape,
    )

    classes, seen, shape = given["classes"], tuple(given["seen"]), tuple(given["shape"])

    def export(slices: int, properties: dict[str, Any]) -> tuple[float, np.ndarray]:
        logits = torch.from_numpy(read_slab(path, classes, seen, 0, slices))
        start = time.perf_counter()
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, *managers(classes), properties, num_threads_torch=given["threads"]
        )
        return time.perf_counter() - start, labels

    few = min(SLAB, seen[0])
    export(few, describe((few, *seen[1:]), (few, *shape[1:])))
    return export(seen[0], describe(seen, shape))


def export_by_ours(given: dict[str, Any], path: Path) -> tuple[float, np.ndarray]:
    """Return the seconds that ours takes once it is warm, and its labels."""
    import torch  # noqa: PLC0415 - after the memory is limited

    from nnmedseg.inference.to_labels.reduction import Reduction  # noqa: PLC0415

    torch.set_num_threads(given["threads"])
    classes, seen, shape = given["classes"], tuple(given["seen"]), tuple(given["shape"])
    seconds = 0.0

    def timed(work: Callable[[], Any]) -> Any:
        nonlocal seconds
        start = time.perf_counter()
        result = work()
        seconds += time.perf_counter() - start
        return result

    def begin() -> Reduction:
        return Reduction(describe(seen, shape), *managers(classes), preprocessed_shape=seen)

    def add(first: int) -> None:
        last = min(first + SLAB, seen[0])
        slab = torch.from_numpy(read_slab(path, classes, seen, first, last))
        timed(lambda: slabs.add(slab))

    slabs = begin()
    add(0)
    seconds = 0.0
    slabs = timed(begin)
    for first in range(0, seen[0], SLAB):
        add(first)
    labels = timed(slabs.finish).labels
    return seconds, labels


def peak() -> int:
    """Return the most memory in bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # which leaves out what the process was forked from
        lines = status.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def main() -> None:
    """Do what the only argument says, and print what it took."""
    given = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
    path = Path(given["folder"], "logits.raw")
    try:
        if given["side"] == "logits":
            make_logits(path, given["classes"], tuple(given["seen"]))
            print("{}")
            return
        export = export_by_ours if given["side"] == "ours" else export_by_nnunet
        seconds, labels = export(given, path)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            sys.exit(OUT_OF_MEMORY)
        raise
    np.save(Path(given["folder"], f"{given['side']}.npy"), labels)
    print(json.dumps({"seconds": seconds, "peak": peak()}))


if __name__ == "__main__":
    main()
