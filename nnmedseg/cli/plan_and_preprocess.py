"""``nnmedseg_plan_and_preprocess``: from converted data to plans and preprocessed arrays."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command, _planning

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, plan and preprocess each data set, and return the exit code."""
    parser = _command.new_parser(
        "Fingerprint data sets, plan them for each trainer and preprocess them once for all."
    )
    _planning.add_options(parser)
    parser.add_argument(
        "-c",
        "--configuration",
        nargs="+",
        default=["2d"],
        metavar="CONFIGURATION",
        help="what to preprocess: 2d, 2d_native, 2d_paper; of volumes also 3d_fullres, 3d_lowres "
        "(default: 2d; all are planned)",
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import paths, plan_and_preprocess

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    for dataset in options.dataset:
        plan_and_preprocess(
            dataset,
            configurations=options.configuration,
            folders=folders,
            **_planning.planning_arguments(options),
        )
        number = int(folders.dataset_name(dataset)[7:10])
        trainer = (options.trainer or ["RoSPERTrainer"])[0]
        logger.info(
            "Next: nnmedseg_train %d %s 0 -tr %s", number, options.configuration[0], trainer
        )
