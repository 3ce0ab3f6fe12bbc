"""A preprocessed data set of a few small images, and trainers of a network of three layers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nnmedseg.data.intensities import Affine
from nnmedseg.files import read_json
from nnmedseg.nnunet import prepare
from nnmedseg.paths import Folders, resolve

NAME = "Dataset900_Tiny"
PLANS = "TinyPlans"
CASES = [f"case_{number}" for number in range(6)]
SIZE = 16
PLUGIN = Path(__file__).with_name("faulty_trainers.py")

_CONFIGURATION = {
    "data_identifier": "tiny_2d",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 4,
    "patch_size": [SIZE, SIZE],
    "median_image_size_in_voxels": [SIZE, SIZE],
    "spacing": [1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"] * 3,
    "use_mask_for_norm": [False] * 3,
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1},
    "architecture": {
        "network_class_name": "none",
        "arch_kwargs": {"strides": [[1, 1]]},
        "_kw_requires_import": [],
    },
    "nnmedseg": {"recipe": {}, "images": len(CASES)},
    "batch_dice": True,
}
_PLANS = {
    "dataset_name": NAME,
    "plans_name": PLANS,
    "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
    "original_median_shape_after_transp": [1, SIZE, SIZE],
    "image_reader_writer": "NaturalImage2DIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {"2d": _CONFIGURATION},
    "experiment_planner_used": "none",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
}
_DATASET = {
    "channel_names": {"0": "R", "1": "G", "2": "B"},
    "labels": {"background": 0, "disc": 1},
    "numTraining": len(CASES),
    "file_ending": ".png",
}


def write_workspace(root: Path) -> Folders:
    """Write the data set, preprocessed; return the folders, which nnU-Net's variables name too."""
    folders = resolve(root)
    prepare()
    base = folders.preprocessed / NAME
    for folder in (base / "tiny_2d", base / "gt_segmentations", folders.raw, folders.results):
        folder.mkdir(parents=True, exist_ok=True)
    _write_json(_PLANS, base / f"{PLANS}.json")
    _write_json(_DATASET, base / "dataset.json")
    _write_json({}, base / "dataset_fingerprint.json")
    _write_json([{"train": CASES[:4], "val": CASES[4:]}], base / "splits_final.json")
    for number, case in enumerate(CASES):
        _write_case(base, case, np.random.default_rng(number))
    return folders


def _write_case(base: Path, case: str, random: np.random.Generator) -> None:
    from nnmedseg.nnunet.dataset import MedSegDataset

    labels = np.zeros((SIZE, SIZE), np.uint8)
    row, column = random.integers(2, 8, 2)
    labels[row : row + 6, column : column + 6] = 1
    colours = (random.integers(0, 60, (3, SIZE, SIZE)) + 150 * labels).astype(np.uint8)
    properties = {
        "spacing": [999.0, 1.0, 1.0],
        "shape_before_cropping": [1, SIZE, SIZE],
        "shape_after_cropping_and_before_resampling": [1, SIZE, SIZE],
        "bbox_used_for_cropping": [[0, 1], [0, SIZE], [0, SIZE]],
        "class_locations": {1: np.argwhere(np.pad(labels[None, None], 0) == 1)},
        "normalisation": Affine(np.full(3, 1 / 60, np.float32), np.full(3, -1, np.float32)),
    }
    path = base / "tiny_2d" / case
    MedSegDataset.save_case(colours[:, None], labels[None, None], properties, str(path))
    Image.fromarray(labels).save(base / "gt_segmentations" / f"{case}.png")


def _write_json(content: object, path: Path) -> None:
    path.write_text(json.dumps(content))


def new_trainer(trainer_class: type, folders: Folders, *, workers: int = 0, **settings):
    """Return a trainer that has begun; its data come from this process unless told otherwise.

    Args:
        trainer_class: One of ``faulty_trainers``.
        folders: Of `write_workspace`.
        workers: Data-loading processes.
        **settings: Attributes to set before it begins, for instance ``precision``.
    """
    from nnmedseg.nnunet.registration import register
    from nnmedseg.training.reliable import reliable

    register()
    os.environ["nnUNet_n_proc_DA"] = str(workers)
    base = folders.preprocessed / NAME
    plans = {**read_json(base / f"{PLANS}.json"), "continue_training": False}
    torch.manual_seed(0)
    trainer = reliable(trainer_class)(
        plans, "2d", 0, read_json(base / "dataset.json"), torch.device("cpu")
    )
    for name, value in settings.items():
        setattr(trainer, name, value)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    return trainer


def batch(seed: int = 0, images: int = 4) -> dict:
    """Return a batch of noise with a square to find."""
    data = torch.randn(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    target = torch.zeros(images, 1, SIZE, SIZE, dtype=torch.int16)
    target[:, :, 4:10, 4:10] = 1
    return {"data": data + 2 * target, "target": target, "keys": np.array(CASES[:images])}
