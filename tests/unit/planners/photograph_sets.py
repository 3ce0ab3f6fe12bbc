"""Small raw data sets of photographs, and plans for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnmedseg.paths import Folders

NAME = "Dataset001_Photographs"
PLANS = "plans"
SIZES = {
    "square": (150, 150),
    "landscape": (120, 301),
    "portrait": (290, 140),
    "framed": (200, 260),
}
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def make_photograph(size: tuple[int, int], channels: int = 3, border: int = 0) -> np.ndarray:
    """Return smooth colours with noise, ``(H, W, C)`` uint8, and a black border if wanted."""
    height, width = size
    random = np.random.default_rng(height + width)
    y, x = np.indices(size)
    waves = [128 + 90 * np.sin(y / (9 + 3 * c) + c) * np.cos(x / 17) for c in range(channels)]
    noise = random.normal(0, 6, (height, width, channels))
    image = np.clip(np.stack(waves, -1) + noise, 1, 255).astype(np.uint8)
    if border:
        framed = np.zeros_like(image)
        framed[border:-border, border:-border] = image[border:-border, border:-border]
        framed[height // 2, width // 2] = 0
        return framed
    return image


def make_mask(size: tuple[int, int], labels: Sequence[int] = (1, 2)) -> np.ndarray:
    """Return discs within each other, ``(H, W)`` uint8."""
    y, x = (np.indices(size).T - np.array(size) / 2).T
    mask = np.zeros(size, np.uint8)
    for n, label in enumerate(labels):
        mask[np.hypot(y, x) < min(size) / (3 + n)] = label
    return mask


def make_data_set(
    root: Path, *, channels: int = 3, labels: Mapping[str, Any] | None = None
) -> Folders:
    """Write a raw data set: RGB images, or one grey file a channel where there are not three."""
    folders = Folders(*(root / name for name in ("raw", "preprocessed", "results")))
    raw = folders.raw / NAME
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    for case, size in SIZES.items():
        image = make_photograph(size, channels, border=20 if case == "framed" else 0)
        files = [image] if channels == 3 else list(np.moveaxis(image, -1, 0))
        for number, pixels in enumerate(files):
            Image.fromarray(pixels).save(raw / "imagesTr" / f"{case}_{number:04d}.png")
        Image.fromarray(make_mask(size)).save(raw / "labelsTr" / f"{case}.png")
    description = {
        "channel_names": {str(channel): "R" for channel in range(channels)},
        "labels": labels or {"background": 0, "rim": 1, "core": 2},
        "regions_class_order": [1, 2],
        "numTraining": len(SIZES),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    (folders.preprocessed / NAME).mkdir(parents=True)
    return folders


def make_plans(
    *, channels: int = 3, details: Mapping[str, Any] | None = None, **changed: Any
) -> dict[str, Any]:
    """Return plans with one configuration ``2d``; ``details`` is its key ``nnmedseg``."""
    resized = "input" in (details or {})
    configuration = {
        "data_identifier": "stored",
        "preprocessor_name": "MedSegPreprocessor" if resized else "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [96, 128],
        "median_image_size_in_voxels": [150, 150],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        "architecture": {
            "network_class_name": "nnmedseg.nnunet.architectures.PlainConvUNet",
            "arch_kwargs": {},
            "_kw_requires_import": [],
        },
        "batch_dice": True,
        "nnmedseg": dict(details or {}),
        **changed,
    }
    statistics = {"mean": 100.0, "std": 20.0, "percentile_00_5": 30.0, "percentile_99_5": 180.0}
    return {
        "dataset_name": NAME,
        "plans_name": PLANS,
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): statistics for channel in range(channels)
        },
        "configurations": {"2d": configuration},
    }


def write_plans(folders: Folders, plans: Mapping[str, Any]) -> None:
    """Write plans where `preprocess` finds them."""
    (folders.preprocessed / NAME / f"{PLANS}.json").write_text(json.dumps(plans))
