"""Validation after training, in one process with threads.

nnU-Net starts pools of processes for it, which costs more than the work itself for 2D images. The
files written are the same: ``validation/<case>`` and ``validation/summary.json``, to which the hash
of the split is added.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from torch import distributed as dist

from nnmedseg.data.splits import hash_of_split_in
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.nnunet import captured_output
from nnmedseg.nnunet.one_at_a_time import OneAtATime
from nnmedseg.progress import track
from nnmedseg.training.group import gathered, in_group
from nnmedseg.training.pretrained import unwrapped
from nnmedseg.training.reliable import ReliableTrainer

logger = logging.getLogger(__name__)

MOST_PENDING_EXPORTS = 2  # each holds the logits of a whole image


def validate(trainer: ReliableTrainer, save_probabilities: bool = False) -> None:
    """Predict the validation cases of the trainer's fold and write them with their metrics.

    Several processes divide the cases among them; the first one writes the metrics of all.
    """
    target = Path(trainer.output_folder) / "validation"
    target.mkdir(parents=True, exist_ok=True)
    predictor = _predictor_of(trainer)
    _, names = trainer.do_split()
    rank, ranks = (trainer.local_rank, dist.get_world_size()) if in_group() else (0, 1)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, names[rank::ranks])
    pending: deque[Future[dict[str, Any]]] = deque()
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(MOST_PENDING_EXPORTS) as pool:
        for name in track(dataset.identifiers, "Validating", len(dataset.identifiers)):
            data, labels, _, properties = dataset.load_case(name)
            image = trainer.image_for_validation(
                name, torch.from_numpy(data[:]), torch.from_numpy(labels[:])
            )
            logits = predictor.predict_sliding_window_return_logits(image)
            if len(pending) >= MOST_PENDING_EXPORTS:
                results.append(pending.popleft().result())
            pending.append(
                pool.submit(
                    _export_and_score,
                    trainer,
                    target,
                    name,
                    logits.cpu(),
                    properties,
                    save_probabilities=save_probabilities,
                )
            )
        results += [future.result() for future in pending]
    results = interleaved(gathered(results))
    if rank > 0:
        return
    summary = summarize(results, _labels(trainer))
    summary["split_sha256"] = hash_of_split_in(trainer.preprocessed_dataset_folder_base)
    summary |= trainer.facts_of_validation()
    save_summary_json(summary, str(target / "summary.json"))
    trainer.print_to_log_file("Validation complete", also_print_to_console=False)
    dice = summary["foreground_mean"]["Dice"]
    trainer.print_to_log_file("Mean Validation Dice: ", f"{dice:.4f}")


def interleaved(parts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return in order what was dealt out in turn."""
    turns = itertools.zip_longest(*parts)
    return [result for turn in turns for result in turn if result is not None]


def summarize(results: list[dict[str, Any]], labels: list[Any]) -> dict[str, Any]:
    """Average metrics as nnU-Net does: cases without a class do not count for it."""
    names = list(results[0]["metrics"][labels[0]])
    means: dict[Any, dict[str, float]] = {
        label: {
            name: _nanmean([result["metrics"][label][name] for result in results]) for name in names
        }
        for label in labels
    }
    foreground = {name: float(np.mean([means[label][name] for label in labels])) for name in names}
    summary = {"metric_per_case": results, "mean": means, "foreground_mean": foreground}
    for part in (*results, means, foreground):
        recursive_fix_for_json_export(part)
    return summary


def _nanmean(values: list[float]) -> float:
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")


def _predictor_of(trainer: nnUNetTrainer) -> nnUNetPredictor:
    network = unwrapped(trainer.network)  # not compiled: images have many sizes
    if isinstance(network, PlannedNetwork):
        network = network.fuse()
    with captured_output(logger):
        predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def _labels(trainer: nnUNetTrainer) -> list[Any]:
    manager = trainer.label_manager
    return manager.foreground_regions if manager.has_regions else manager.foreground_labels


def _export_and_score(
    trainer: nnUNetTrainer,
    target: Path,
    name: str,
    logits: torch.Tensor,
    properties: dict[str, Any],
    *,
    save_probabilities: bool,
) -> dict[str, Any]:
    labels = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.label_manager,
        properties,
        return_probabilities=save_probabilities,
        num_threads_torch=torch.get_num_threads(),
    )
    if save_probabilities:
        labels, probabilities = labels
        np.savez_compressed(target / f"{name}.npz", probabilities=probabilities)
        save_pickle(properties, str(target / f"{name}.pkl"))
    files = OneAtATime(trainer.plans_manager.image_reader_writer_class())
    file_name = name + trainer.dataset_json["file_ending"]
    files.write_seg(labels, str(target / file_name), properties)
    return compute_metrics(
        str(Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations" / file_name),
        str(target / file_name),
        files,
        _labels(trainer),
        trainer.label_manager.ignore_label,
    )
