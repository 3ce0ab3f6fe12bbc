"""An authors' checkpoint as a model folder that predicts, in nnU-Net's own layout."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nnmedseg.data.synapse import ORGANS
from nnmedseg.errors import UserError
from nnmedseg.files import write_json
from nnmedseg.networks import SegmentationNetwork
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.weights._classes import to_two_classes
from nnmedseg.weights._files import read_checkpoint
from nnmedseg.weights._importer import import_reference

logger = logging.getLogger(__name__)

CONFIGURATION = "2d"
READER = "NaturalImage2DIO"
_MODEL_FILES = {"plans.json", "dataset.json", "import.json", "fold_0"}


@dataclass(frozen=True)
class ReleasedInput:
    """What the authors' networks were fed; see :mod:`nnmedseg.data.released_input`.

    Attributes:
        intensity: How intensities are scaled.
        resize: How the image is resized.
        size: Height and width.
    """

    intensity: str
    resize: str
    size: tuple[int, int]


def released_input(name: str, network: SegmentationNetwork) -> ReleasedInput:
    """What a paper's released code feeds to its network."""
    if name.startswith("promise"):
        side = network.options["sam_size"] or network.options["image_size"]
        return ReleasedInput("imagenet", "area", (side, side))
    if name == "heteromedseg" and network.num_classes > 1:
        return ReleasedInput("synapse", "spline", (224, 224))
    if name == "heteromedseg":
        return ReleasedInput("imagenet", "bilinear", (256, 256))
    if name.startswith("condseg"):
        return ReleasedInput("divided_by_255", "bilinear", (256, 256))
    return ReleasedInput("min_max_255", "bilinear", (256, 256))


def import_weights(
    name: str,
    checkpoint: str | Path,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Make a model folder of a checkpoint of a paper's authors.

    Images are prepared as the authors' code does it (intensities, and the size whatever the aspect
    ratio); one sigmoid logit becomes two classes with the same masks. Predicting averages over no
    mirrored copies, as the authors' code.

    Args:
        name: The network's registered name.
        checkpoint: The authors' file; only tensors and plain values are read from it.
        output: The model folder to make.
        size: Height and width for the network instead of the paper's.
        overwrite: Replace a model folder that an earlier import has made.
        **options: As for `from_reference`.

    Returns:
        ``output``.

    Raises:
        UserError: The file is not what it claims to be, or the folder is taken.
    """
    output = Path(output)
    _check_free(output, overwrite=overwrite)
    imported = import_reference(name, read_checkpoint(checkpoint), **_defaults(name, options))
    network = imported.network
    given = released_input(name, network)
    if size is not None:
        given = ReleasedInput(given.intensity, given.resize, size)
    if network.num_classes == 1:
        network = to_two_classes(network)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".importing-") as scratch:
        made = Path(scratch) / "model"
        _write(made, name, network, given)
        record = {
            "network": name,
            "checkpoint": Path(checkpoint).name,
            "options": network.options,
            "ignored": {reason: len(names) for reason, names in imported.ignored.items()},
        }
        write_json(record, made / "import.json")
        if output.exists():
            shutil.rmtree(output)
        made.rename(output)
    return output


def _check_free(output: Path, *, overwrite: bool) -> None:
    if not output.exists():
        return
    ours = output.is_dir() and {path.name for path in output.iterdir()} <= _MODEL_FILES
    if not ours or (any(output.iterdir()) and not overwrite):
        raise UserError(
            "the folder for the model exists already",
            where=output,
            mend="name another one" + (", or give --overwrite" if ours else ""),
        )


def _defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the paper's own recipe implies, unless the options say otherwise."""
    if name.startswith("condseg"):
        # The authors read images with OpenCV: blue first. Here red comes first.
        return {"reverse_channels": True, **options}
    return dict(options)


def _write(folder: Path, name: str, network: SegmentationNetwork, given: ReleasedInput) -> None:
    fold = folder / "fold_0"
    fold.mkdir(parents=True)
    channels = _channels(network, given)
    write_json(_dataset(name, channels, network.num_classes), folder / "dataset.json")
    write_json(_plans(name, network, channels, given), folder / "plans.json")
    planned = PlannedNetwork(len(channels), network.num_classes, network=name, **network.options)
    planned.network.load_state_dict(network.state_dict())
    torch.save(
        {
            "network_weights": planned.state_dict(),
            # nnU-Net's own trainer builds whatever network the plans name.
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": CONFIGURATION},
            "inference_allowed_mirroring_axes": None,
        },
        fold / "checkpoint_final.pth",
    )


def _channels(network: SegmentationNetwork, given: ReleasedInput) -> list[str]:
    count = network.input_channels
    if count == 1 or (count == 3 and given.intensity == "synapse"):
        return ["grey"]  # HeteroMedSeg repeats a grey image to the three channels of its stem
    return ["R", "G", "B"] if count == 3 else [f"channel {k}" for k in range(count)]


def _dataset(name: str, channels: list[str], classes: int) -> dict[str, Any]:
    if classes == 2:
        labels = ["foreground"]
    elif classes == len(ORGANS) + 1 and channels == ["grey"]:
        labels = list(ORGANS)
    else:
        labels = [f"class {k}" for k in range(1, classes)]
    return {
        "channel_names": {str(k): channel for k, channel in enumerate(channels)},
        "labels": {"background": 0, **{label: k for k, label in enumerate(labels, 1)}},
        "numTraining": 0,
        "file_ending": ".png",
        "overwrite_image_reader_writer": READER,
        "name": f"Released_{name}",
    }


def _plans(
    name: str, network: SegmentationNetwork, channels: list[str], given: ReleasedInput
) -> dict[str, Any]:
    resampling = {"is_seg": False, "force_separate_z": False}
    configuration = {
        "data_identifier": f"released_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(given.size),
        "median_image_size_in_voxels": list(map(float, given.size)),
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["NoNormalization"] * len(channels),
        "use_mask_for_norm": [False] * len(channels),
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": f"{PlannedNetwork.__module__}.{PlannedNetwork.__name__}",
            "arch_kwargs": {"network": name, **network.options},
            "_kw_requires_import": [],
        },
        "nnmedseg": {"schema": 1, "recipe": {}, "released_input": asdict(given)},
        "batch_dice": True,
    }
    return {
        "dataset_name": f"Dataset000_Released_{name}",
        "plans_name": "ReleasedPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, *given.size],
        "image_reader_writer": READER,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "import of the authors' weights",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }
