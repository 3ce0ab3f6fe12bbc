"""``nnmedseg_predict``: masks for a folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command, _model_folder

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
        nargs="+",
        metavar="PATH",
        help="images: folders, files, or lists of files (.txt with one path a line, or .json) of "
        "PNG, JPEG, BMP, TIFF, NIfTI, NRRD and MetaImage, or folders of DICOM slices",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the masks")
    _model_folder.add_model(parser)
    parser.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all trained)"
    )
    parser.add_argument("--checkpoint", choices=("final", "best"), default="final")
    _command.add_outputs(
        parser,
        probabilities="also write the probability of each class, for nnmedseg_ensemble",
        uncertainty="also write how undecided folds and mirrored copies are about each pixel",
    )
    parser.add_argument(
        "--disable-tta",
        "--disable_tta",
        action="store_true",
        help="predict each image once instead of in four mirrored copies",
    )
    parser.add_argument(
        "--whole-images",
        action="store_true",
        help="give a fully convolutional network (nnU-Net's own) each image at once instead of in "
        "tiles, where it is not much larger than a patch: faster; labels differ here and there",
    )
    parser.add_argument(
        "--no-postprocessing",
        action="store_true",
        help="leave the masks as the network makes them, whatever nnmedseg_find_postprocessing has "
        "found to help the model",
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
        _model_folder.model_folder(options, folders),
        folds=options.folds,
        checkpoint=options.checkpoint,
        device=options.device,
        mirroring=not options.disable_tta,
        whole_images=options.whole_images,
        png=options.png,
        overlay=options.overlay,
        probabilities=options.probabilities,
        uncertainty=options.uncertainty,
        overwrite=options.overwrite,
        prompts=options.prompts,
        prompts_from=options.prompts_from,
        postprocessing=not options.no_postprocessing,
    )
    for outcome in manifest.failed:
        logger.error("failed: %s: %s", outcome.case, outcome.message)
    predicted = len(manifest.outcomes) - len(manifest.failed)
    logger.info("%d masks in %s, %d failed", predicted, options.output, len(manifest.failed))
    return EXIT_SOME_FAILED if manifest.failed else 0
