"""What the runner of an exported network has to know of its model, as JSON in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnunetv2.configuration import ANISO_THRESHOLD

from nnmedseg.data.intensities import IMAGENET_DEVIATION, IMAGENET_MEAN
from nnmedseg.data.released_input import RELEASED_INPUT
from nnmedseg.errors import UserError
from nnmedseg.inference.inputs.loading import NATURAL_SPACING
from nnmedseg.inference.postprocessing.rules import PostProcessing
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.sharing.archive import package_versions
from nnmedseg.inference.sharing.weights_licence import licence_of_weights
from nnmedseg.inference.sliding_window import WEIGHT_AT_THE_CENTRE
from nnmedseg.inference.trained_folds import checkpoint_hashes
from nnmedseg.inference.whole_images import MOST_PATCHES
from nnmedseg.training.checkpoints import read_checkpoint

FORMAT = 1
_LARGEST = 3e38
_ANY = [-_LARGEST, _LARGEST]
_AS_IT_IS: dict[str, Any] = {"masked": False, "clip": _ANY, "minus": 0.0, "by": 1.0, "times": 1.0}
_BY_255 = {**_AS_IT_IS, "by": 255.0}
_SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "NoNormalization": _AS_IT_IS,
    "RGBTo01Normalization": _BY_255,
    "RescaleTo01Normalization": {**_AS_IT_IS, "minus": "min", "by": "max"},
    "ZScoreNormalization": {**_AS_IT_IS, "minus": "mean", "by": "std"},
}
_OF_PAPERS: Mapping[str, tuple[str, list[dict[str, Any]]]] = {
    "divided_by_255": ("channels", [_BY_255]),
    "min_max_255": ("slices", [{**_AS_IT_IS, "minus": "min", "by": "max", "times": 255.0}]),
    "imagenet": (
        "channels",
        [
            {**_AS_IT_IS, "minus": 255 * mean, "by": 255 * deviation}
            for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
        ],
    ),
}
_SIZES_OF_PAPERS = {"bilinear": "linear", "area": "area"}
_SPLINES = {1: "linear", 3: "cubic"}


def rules_of(predictor: MedSegPredictor) -> dict[str, Any]:
    """Return all that leads from an image to the network's input, and back from its logits.

    Raises:
        UserError: The model does something that the runner cannot do.
    """
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    manager = predictor.label_manager
    _check_supported(predictor)
    ours = configuration.configuration.get("nnmedseg", {})
    given = ours.get(RELEASED_INPUT) or ours.get("input") or {}
    intensities_of, intensities = _intensities(predictor, given.get("intensity"))
    return {
        "format": FORMAT,
        "channel_names": predictor.dataset_json["channel_names"],
        "labels": predictor.dataset_json["labels"],
        "heads": manager.num_segmentation_heads,
        "regions": list(manager.regions_class_order) if manager.has_regions else None,
        "label_type": "uint8" if len(manager.foreground_labels) < 255 else "uint16",
        "transpose_forward": list(plans.transpose_forward),
        "transpose_backward": list(plans.transpose_backward),
        "crop_to_nonzero": "size" not in given,
        "spacing": [float(side) for side in configuration.spacing],
        "default_spacing": list(NATURAL_SPACING) if predictor.is_natural else None,
        "intensities_of": intensities_of,
        "intensities": intensities,
        "resize": _resize(configuration.configuration, given),
        "resize_logits": _resampling(configuration.configuration, "resampling_fn_probabilities"),
        **_tiles(predictor),
        **_facts(predictor),
    }


def _check_supported(predictor: MedSegPredictor) -> None:
    if predictor.needs_prompts:
        raise _refused("the network needs point prompts, which an exported one is not given")
    if predictor.configuration_manager.previous_stage_name is not None:
        raise _refused("the model is the second of a cascade, which needs another one's masks")


def _intensities(
    predictor: MedSegPredictor, of_a_paper: str | None
) -> tuple[str, list[dict[str, Any]]]:
    if of_a_paper is not None:
        if of_a_paper not in _OF_PAPERS:
            raise _refused(f"the runner has no intensities {of_a_paper!r}")
        return _OF_PAPERS[of_a_paper]
    configuration = predictor.configuration_manager
    statistics = predictor.plans_manager.foreground_intensity_properties_per_channel
    rules = []
    for channel, scheme in enumerate(configuration.normalization_schemes):
        masked = bool(configuration.use_mask_for_norm[channel]) and scheme == "ZScoreNormalization"
        if scheme == "CTNormalization":
            of_data = statistics[str(channel)]
            clip = [of_data["percentile_00_5"], of_data["percentile_99_5"]]
            numbers = {"clip": clip, "minus": of_data["mean"], "by": of_data["std"]}
            rules.append({**_AS_IT_IS, **numbers})
        elif scheme in _SCHEMES:
            rules.append({**_SCHEMES[scheme], "masked": masked})
        else:
            raise _refused(f"the runner has no normalisation {scheme}")
        rules[-1]["scheme"] = scheme
    return "channels", rules


def _resize(configuration: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    if "shorter_side" in given:
        rule = {"shorter_side": given["shorter_side"], "method": "antialiased"}
        return {**rule, "apart_beyond": None}
    if "size" in given:
        if given["resize"] not in _SIZES_OF_PAPERS:
            raise _refused(f"the runner cannot resize by {given['resize']!r}")
        method = _SIZES_OF_PAPERS[given["resize"]]
        return {"size": list(given["size"]), "method": method, "apart_beyond": None}
    return _resampling(configuration, "resampling_fn_data")


def _resampling(configuration: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a method, and beyond which ratio of spacings an axis is resampled apart."""
    name, settings = configuration[key], configuration[f"{key}_kwargs"]
    if name == "resample_data_or_seg_to_shape":
        method = _SPLINES.get(settings.get("order", 3))
        default, nearest = False, settings.get("order_z", 0) == 0
    elif name == "resample_torch_fornnunet":
        method = "linear" if settings.get("mode", "linear") == "linear" else None
        default, nearest = None, settings.get("aniso_axis_mode", "nearest-exact") == "nearest-exact"
    else:
        raise _refused(f"the runner cannot resample as {name} does")
    force = settings.get("force_separate_z", default)
    if method is None or not nearest or force is True:
        raise _refused(f"the runner cannot resample as {name} does with {dict(settings)}")
    threshold = settings.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
    return {"method": method, "apart_beyond": None if force is False else threshold}


def _tiles(predictor: MedSegPredictor) -> dict[str, Any]:
    patch = [int(side) for side in predictor.configuration_manager.patch_size]
    at_once = predictor.whole_images and len(patch) == 2
    return {
        "patch_size": patch,
        "divisors": divisors_of(predictor) if at_once else [],
        "most_pixels_at_once": MOST_PATCHES * math.prod(patch) if at_once else 0,
        "tile_step": predictor.tile_step_size,
        "gaussian": {"sigma": 1 / 8, "at_the_centre": WEIGHT_AT_THE_CENTRE},
        "mirror_axes": list(predictor.allowed_mirroring_axes or ()),
    }


def divisors_of(predictor: MedSegPredictor) -> list[int]:
    """Return what the sides of an image have to be multiples of for nnU-Net's networks."""
    dimensions = len(predictor.configuration_manager.patch_size)
    strides = predictor.configuration_manager.network_arch_init_kwargs.get("strides")
    steps = [[each] * dimensions if isinstance(each, int) else each for each in strides or []]
    return [math.prod(step[axis] for step in steps) for axis in range(dimensions)]


def _facts(predictor: MedSegPredictor) -> dict[str, Any]:
    """Return what identifies the model."""
    plans = predictor.plans_manager.plans
    learnt = PostProcessing.from_model(predictor.model)
    hashes = checkpoint_hashes(predictor.model, predictor.folds, predictor.checkpoint_name)
    first = predictor.model / f"fold_{predictor.folds[0]}" / predictor.checkpoint_name
    configuration = read_checkpoint(first)["init_args"]["configuration"]
    return {
        "model": f"{predictor.trainer_name}__{plans['plans_name']}__{configuration}",
        "dataset": plans["dataset_name"],
        "folds": predictor.folds,
        "checkpoint_sha256": hashes,
        "split_sha256": predictor.split_sha256,
        "versions": package_versions(),
        "weights_licence": licence_of_weights(plans, configuration),
        "postprocessing": None if learnt is None else learnt.describe(),
    }


def _refused(what: str) -> UserError:
    return UserError(
        f"the model cannot be exported to ONNX: {what}",
        mend="predict with nnmedseg_predict, or hand the model over with --format zip",
    )
