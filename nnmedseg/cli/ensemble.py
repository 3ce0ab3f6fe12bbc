"""``nnmedseg_ensemble``: masks from the mean of several models."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command
from nnmedseg.errors import UserError

logger = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, combine, and return the exit code (1 when some images failed)."""
    parser = argparse.ArgumentParser(
        description="Average the probabilities of several models: either folders that "
        "nnmedseg_predict --probabilities or nnUNetv2_predict --save_probabilities has written, or "
        "images (-i) that several models (-m) predict in one run, which writes none but the mean's."
    )
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="folders of probabilities, two or more"
    )
    parser.add_argument(
        "-i", "--input", nargs="+", metavar="PATH", help="images, as nnmedseg_predict takes them"
    )
    parser.add_argument(
        "-m", "--models", nargs="+", metavar="DIR", help="model folders, two or more; with -i"
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the masks")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=["validation"],
        metavar="WEIGHT",
        help="validation (the default: proportional to each model's mean Dice on the cases that "
        "its folds held out), equal, or a number for each model",
    )
    parser.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds of each model to average (default: all trained); with -m",
    )
    parser.add_argument("--checkpoint", choices=("final", "best"), help="default: final; with -m")
    parser.add_argument(
        "--disable-tta",
        "--disable_tta",
        action="store_true",
        help="predict each image once instead of in mirrored copies; with -m",
    )
    _command.add_outputs(
        parser,
        probabilities="also write the mean probability of each class",
        uncertainty="also write how undecided the models are about each pixel",
    )
    parser.add_argument("--overwrite", action="store_true", help="combine completed images again")
    _command.add_plugin(parser)
    _command.add_device(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from nnmedseg import ensemble

    manifest = ensemble(
        options.output,
        folders=options.folders,
        images=options.input,
        models=options.models or (),
        weights=_weighting(options.weights),
        folds=options.folds,
        checkpoint=options.checkpoint,
        device=options.device,
        mirroring=not options.disable_tta,
        png=options.png,
        overlay=options.overlay,
        probabilities=options.probabilities,
        uncertainty=options.uncertainty,
        overwrite=options.overwrite,
    )
    for outcome in manifest.failed:
        logger.error("failed: %s: %s", outcome.case, outcome.message)
    logger.info(
        "%d masks in %s, %d failed; weights %s",
        len(manifest.outcomes) - len(manifest.failed),
        options.output,
        len(manifest.failed),
        ", ".join(f"{weight:.3f}" for weight in manifest.model["weights"]),
    )
    return EXIT_SOME_FAILED if manifest.failed else 0


def _weighting(given: Sequence[str]) -> str | list[float]:
    """Return the name of a way to weight models, or their weights."""
    if len(given) == 1 and given[0] in ("validation", "equal"):
        return given[0]
    try:
        return [float(weight) for weight in given]
    except ValueError as error:
        raise UserError(
            f"{' '.join(given)!r} are no weights",
            where="--weights",
            mend="give validation, equal, or a number for each model",
        ) from error
