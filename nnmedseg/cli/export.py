"""``nnmedseg_export``: a trained model as one file, to hand to others or to run elsewhere."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command, _model_folder

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, export, and return the exit code."""
    parser = _command.new_parser(
        "Write a trained model as one file. Name the model by -d, -c, -tr (and -p), or by -m."
    )
    _model_folder.add_model(parser)
    parser.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to export (default: all trained)"
    )
    parser.add_argument("--checkpoint", choices=("final", "best"), default="final")
    parser.add_argument(
        "--format",
        choices=("onnx", "zip"),
        required=True,
        help="onnx: the network, the mean of its folds, for ONNX Runtime, and beside it a script "
        "that segments images with it; zip: all that prediction needs, for nnmedseg_install",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="file to write (.onnx or .zip), or a folder for it",
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import export, paths

    folders = paths.resolve(options.workspace)
    written = export(
        _model_folder.model_folder(options, folders),
        options.output,
        options.format,
        folds=options.folds,
        checkpoint=options.checkpoint,
    )
    logger.info("Wrote %s (%.1f MB)", written, written.stat().st_size / 1e6)
    if options.format == "zip":
        logger.info("Install it with: nnmedseg_install %s", written)
    else:
        runner = written.with_name("onnx_runner.py")
        logger.info("Use it with: python %s %s IMAGE.npy MASK.npy", runner, written)
