"""``nnmedseg_plan``: plans without preprocessing, and what the plans say."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command, _planning

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, plan each data set or show its plans, and return the exit code."""
    parser = _command.new_parser(
        "Plan data sets for each trainer without preprocessing them, or show their plans."
    )
    _planning.add_options(parser)
    parser.add_argument(
        "--show", action="store_true", help="show the plans that are there, plan nothing"
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import paths, plan

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    for dataset in options.dataset:
        if not options.show:
            plan(dataset, folders=folders, **_planning.planning_arguments(options))
            continue
        from nnmedseg.planners.table import show_plans

        for line in show_plans(folders, folders.dataset_name(dataset)):
            logger.info("%s", line)
