"""``nnmedseg_plan_and_preprocess``: from converted data to plans and preprocessed arrays."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, plan and preprocess each data set, and return the exit code."""
    parser = _command.new_parser(
        "Fingerprint data sets, plan them for each trainer and preprocess them once for all."
    )
    parser.add_argument(
        "-d", "--dataset", nargs="+", required=True, metavar="ID", help="numbers or names"
    )
    parser.add_argument(
        "-tr",
        "--trainer",
        nargs="+",
        metavar="TRAINER",
        help="trainers to plan for (default: all, nnU-Net's own included)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=_command.positive_float,
        default=8.0,
        metavar="GIB",
        help="memory that a training step may use (default: 8)",
    )
    parser.add_argument(
        "--working-size",
        type=_command.positive_int,
        metavar="PIXELS",
        help="shorter side of the median photograph after preprocessing (default: at most 256)",
    )
    _command.add_num_processes(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import paths, plan_and_preprocess

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    for dataset in options.dataset:
        plan_and_preprocess(
            dataset,
            trainers=options.trainer,
            gpu_memory=options.gpu_memory,
            working_size=options.working_size,
            num_processes=options.num_processes,
            folders=folders,
        )
        number = int(folders.dataset_name(dataset)[7:10])
        logger.info("Next: nnmedseg_train %d 2d 0 -tr RoSPERTrainer", number)
