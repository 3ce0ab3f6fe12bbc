"""``nnmedseg_demo``: the whole job on images that come with the package."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)

DEFAULT_WORKSPACE = "nnmedseg_demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the demo, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Convert, plan, train RoSPER-Net briefly, predict and evaluate: 24 dermoscopy "
        "images, under 5 minutes on two CPU cores."
    )
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        default=DEFAULT_WORKSPACE,
        help=f"folder for everything the demo writes (default: ./{DEFAULT_WORKSPACE})",
    )
    _command.add_device(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import demo, paths

    logger.info("Using %s", paths.resolve(options.workspace))
    result = demo.run(options.workspace, options.device)
    logger.info("")
    logger.info("Mean Dice on 8 images that were not trained on:")
    logger.info("  RoSPER-Net, trained for %d steps   %.3f", demo.STEPS, result.dice)
    logger.info("  guess: best centred ellipse        %.3f", result.centred_ellipse)
    logger.info("  guess: everything is lesion        %.3f", result.all_foreground)
    logger.info("Time: %.0f s", result.seconds)
    logger.info("Look at %s (white: reference, blue: predicted)", result.overview)
