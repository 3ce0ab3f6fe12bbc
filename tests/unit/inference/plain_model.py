"""Model folders of a tiny U-Net of nnU-Net's, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnmedseg.files import write_json

U_NET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"

PLANNED = "nnmedseg.networks.adapter.PlannedNetwork"


def _u_net(dimensions: int) -> dict[str, Any]:
    convolution = f"torch.nn.modules.conv.Conv{dimensions}d"
    return {
        "n_stages": 3,
        "features_per_stage": [4, 4, 4],
        "conv_op": convolution,
        "kernel_sizes": [[3] * dimensions] * 3,
        "strides": [[1] * dimensions, [2] * dimensions, [2] * dimensions],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def plain_model(
    folder: Path,
    *,
    reader: str = "NaturalImage2DIO",
    patch_size: tuple[int, ...] = (16, 24),
    channels: int = 3,
    labels: dict[str, Any] | None = None,
    regions_class_order: list[int] | None = None,
    spacing: tuple[float, ...] | None = None,
    folds: tuple[int, ...] = (0,),
    network: str | None = None,
    network_options: dict[str, Any] | None = None,
) -> Path:
    """Make a model folder that nnU-Net's predictor loads as well as ours.

    Args:
        folder: Where to make it.
        reader: nnU-Net's class that reads the images.
        patch_size: Height and width, or depth, height and width.
        channels: Of the images.
        labels: Of the foreground.
        regions_class_order: Of regions.
        spacing: That images are resampled to.
        folds: Each has weights of its own.
        network: A registered network instead of the U-Net.
        network_options: Its options.
    """
    dimensions = len(patch_size)
    configuration = {
        "data_identifier": "data",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch_size),
        "spacing": list(spacing or (1.0,) * dimensions),
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": _resampling(3, is_labels=False),
        "resampling_fn_seg_kwargs": _resampling(1, is_labels=True),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": _resampling(1, is_labels=False),
        "architecture": _architecture(dimensions, network, network_options or {}),
        "batch_dice": True,
    }
    intensities = {"max": 255.0, "mean": 128.0, "std": 60.0, "min": 0.0, "median": 128.0}
    intensities |= {"percentile_00_5": 1.0, "percentile_99_5": 254.0}
    name = "2d" if dimensions == 2 else "3d_fullres"
    plans = {
        "dataset_name": "Dataset001_Plain",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 64, 64],
        "image_reader_writer": reader,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): intensities for channel in range(channels)
        },
    }
    dataset = {
        "channel_names": {str(channel): f"channel {channel}" for channel in range(channels)},
        "labels": {"background": 0, **(labels or {"lesion": 1})},
        "numTraining": 1,
        "file_ending": ".png" if reader == "NaturalImage2DIO" else ".nii.gz",
        **({"regions_class_order": regions_class_order} if regions_class_order else {}),
    }
    model = folder / f"nnUNetTrainer__nnUNetPlans__{name}"
    model.mkdir(parents=True)
    write_json(plans, model / "plans.json")
    write_json(dataset, model / "dataset.json")
    heads = len(regions_class_order) if regions_class_order else len(dataset["labels"])
    for fold in folds:
        _write_fold(
            model,
            fold,
            configuration["architecture"],
            channels=channels,
            heads=heads,
            name=name,
        )
    return model


def _architecture(dimensions: int, network: str | None, options: dict[str, Any]) -> dict[str, Any]:
    planned = network is not None
    return {
        "network_class_name": PLANNED if planned else U_NET,
        "arch_kwargs": {"network": network, **options} if planned else _u_net(dimensions),
        "_kw_requires_import": [] if planned else ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _write_fold(
    model: Path, fold: int, architecture: dict[str, Any], *, channels: int, heads: int, name: str
) -> None:
    torch.manual_seed(fold)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        heads,
        deep_supervision=False,
    )
    target = model / f"fold_{fold}"
    target.mkdir()
    axes = (0, 1) if name == "2d" else (0, 1, 2)
    torch.save(
        {
            "network_weights": network.state_dict(),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": name},
            "inference_allowed_mirroring_axes": axes,
        },
        target / "checkpoint_final.pth",
    )


def _resampling(order: int, *, is_labels: bool) -> dict[str, Any]:
    return {"is_seg": is_labels, "order": order, "order_z": 0, "force_separate_z": None}
