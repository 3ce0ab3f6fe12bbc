"""``nnmedseg_predict``: masks for a folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, predict, and return the exit code (1 when some images failed)."""
    parser = _command.new_parser(
        "Segment every image of a folder. Name the model by -d, -c, -tr (and -p), or by -m."
    )
    parser.add_argument(
        "-i",
        "--input",
        required=True,
        metavar="DIR",
        help="folder of PNG, JPEG, BMP, TIFF or NIfTI",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the masks")
    parser.add_argument("-d", "--dataset", metavar="ID", help="number or name of the data set")
    parser.add_argument("-c", "--configuration", default="2d", help="configuration (default: 2d)")
    parser.add_argument(
        "-tr", "--trainer", default="nnUNetTrainer", help="trainer (default: nnUNetTrainer)"
    )
    parser.add_argument("-p", "--plans", help="plans (default: the trainer's own)")
    _command.add_plugin(parser)
    parser.add_argument(
        "-m", "--model", metavar="DIR", help="model folder Trainer__Plans__configuration"
    )
    parser.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all trained)"
    )
    parser.add_argument("--checkpoint", choices=("final", "best"), default="final")
    parser.add_argument(
        "--png",
        action="store_true",
        help="also write PNG: 0 and 255 for one class, labels for several",
    )
    parser.add_argument(
        "--disable-tta",
        "--disable_tta",
        action="store_true",
        help="predict each image once instead of in four mirrored copies",
    )
    parser.add_argument("--overwrite", action="store_true", help="predict completed images again")
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument(
        "--prompts",
        metavar="FILE",
        help='points for a model that takes some: JSON, {"case": [{"x": 120, "y": 85, "label": 1}, '
        "...]} in pixels of the image as it is on the disk, label 1 on the object and 0 beside it; "
        'also "class" from 1 and, in volumes, "z"',
    )
    prompts.add_argument(
        "--prompts-from",
        metavar="DIR",
        help="draw the points from masks with the images' names: an oracle's prediction where "
        "these are the references",
    )
    _command.add_device(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from nnmedseg import paths, predict

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    manifest = predict(
        options.input,
        options.output,
        options.model or _model_folder(options, folders),
        folds=options.folds,
        checkpoint=options.checkpoint,
        device=options.device,
        mirroring=not options.disable_tta,
        png=options.png,
        overwrite=options.overwrite,
        prompts=options.prompts,
        prompts_from=options.prompts_from,
    )
    for outcome in manifest.failed:
        logger.error("failed: %s: %s", outcome.case, outcome.message)
    predicted = len(manifest.outcomes) - len(manifest.failed)
    logger.info("%d masks in %s, %d failed", predicted, options.output, len(manifest.failed))
    return EXIT_SOME_FAILED if manifest.failed else 0


def _model_folder(options: argparse.Namespace, folders: object) -> Path:
    from nnmedseg import nnunet
    from nnmedseg.errors import UserError
    from nnmedseg.paths import Folders

    if options.dataset is None:
        raise UserError(
            "no model was named", where="the command line", mend="give -d, -c and -tr, or -m"
        )
    nnunet.prepare()
    from nnmedseg.trainers import default_plans_name, find_trainer

    if not isinstance(folders, Folders):
        raise TypeError("folders are what paths.resolve returns")
    trainer = find_trainer(options.trainer)
    plans = options.plans or default_plans_name(trainer)
    name = f"{trainer.__name__}__{plans}__{options.configuration}"
    return folders.results / folders.dataset_name(options.dataset) / name
