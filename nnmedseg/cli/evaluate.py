"""``nnmedseg_evaluate``: metrics of predicted masks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, evaluate, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Compare predicted masks with reference masks, case by case."
    )
    parser.add_argument("predictions", help="folder of predicted masks (NIfTI or PNG)")
    parser.add_argument("references", help="folder of reference masks with the same names")
    parser.add_argument(
        "-o", "--output", metavar="CSV", help="where to write (default: metrics.csv there)"
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import evaluate

    means = evaluate(options.predictions, options.references, options.output)
    for label, metrics in means["labels"].items():
        logger.info("label %s: Dice %.4f, IoU %.4f", label, metrics["dice"], metrics["iou"])
    logger.info("mean over %d cases", means["cases"])
