"""``nnmedseg_find_postprocessing``: what to do to a model's masks, learnt on its validation."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from nnmedseg.cli import _command, _model_folder

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, learn, and return the exit code."""
    parser = _command.new_parser(
        "Learn which post-processing helps a model (keeping the largest region, removing small "
        "ones, filling holes, opening, closing) on the masks that each fold made of the cases it "
        "was not trained on. nnmedseg_predict then does what helped. Name the model by -d, -c, -tr "
        "(and -p), or by -m."
    )
    _model_folder.add_model(parser)
    parser.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to learn on (default: all)"
    )
    parser.add_argument(
        "--references",
        metavar="DIR",
        help="folder of the reference masks (default: the data set's in the workspace)",
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import find_postprocessing, paths

    folders = paths.resolve(options.workspace)
    model = _model_folder.model_folder(options, folders)
    found = find_postprocessing(
        model, folds=options.folds, references=options.references, folders=folders
    )
    for label, evidence in found["evidence"]["labels"].items():
        for line in _lines(evidence):
            logger.info("label %s: %s", label, line)
    dice = found["evidence"]["mean_dice"]
    logger.info(
        "Mean Dice %.4f; with all steps %.4f, and %.4f with those that each case's fold had no "
        "part in choosing, which is what to expect of new images",
        dice["before"],
        dice["after"],
        dice["after_leaving_its_fold_out"],
    )
    logger.info(
        "%s in %s",
        "Steps for nnmedseg_predict are" if found["targets"] else "No step helps: this is",
        model / "postprocessing.json",
    )


def _lines(evidence: dict[str, Any]) -> list[str]:
    """Return what was kept and why, or that nothing was."""
    kept = [_line(trial) for trial in evidence["tried"] if trial["kept"]]
    return kept or [f"none of the {len(evidence['tried'])} steps that were tried helps"]


def _line(trial: dict[str, Any]) -> str:
    size = f" {trial['size']:.4g}" if trial["size"] else ""
    return (
        f"{trial['step'].replace('_', ' ')}{size}: Dice {trial['dice_before']:.4f} -> "
        f"{trial['dice_after']:.4f}, {trial['cases_better']} cases better, "
        f"{trial['cases_worse']} worse, p = {trial['p']:.2g}"
    )
