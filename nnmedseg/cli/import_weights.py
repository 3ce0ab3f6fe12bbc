"""``nnmedseg_import_weights``: a model folder from a checkpoint of a paper's authors."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from typing import Any

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)

UNPROMPTED = "promise_ips_gt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, import, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Turn a checkpoint that a paper's authors trained into a model folder that "
        "nnmedseg_predict -m runs. Images are then prepared as the authors' code does it."
    )
    parser.add_argument("network", help="network that the file belongs to: see nnmedseg_models")
    parser.add_argument("checkpoint", metavar="FILE", help="the authors' .pth file")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="model folder to make")
    parser.add_argument(
        "--size",
        nargs=2,
        type=_command.positive_int,
        metavar=("HEIGHT", "WIDTH"),
        help="size that images are brought to (default: the paper's)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="NAME=VALUE",
        help="option of the network that the file does not tell, for instance mixer=noncausal "
        "(heteromedseg) or reverse_channels=false (condseg); may be given several times",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier import")
    return _command.run(parser, _run, arguments)


def _option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not (name.isidentifier() and separator):
        raise argparse.ArgumentTypeError(f"NAME=VALUE is needed, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import import_weights
    from nnmedseg.files import read_json

    model = import_weights(
        options.network,
        options.checkpoint,
        options.output,
        size=tuple(options.size) if options.size else None,
        overwrite=options.overwrite,
        **dict(options.option),
    )
    given = read_json(model / "plans.json")["configurations"]["2d"]["nnmedseg"]["released_input"]
    height, width = given["size"]
    logger.info(
        "Images are brought to %dx%d pixels (%s), intensities: %s",
        height,
        width,
        given["resize"],
        given["intensity"],
    )
    if options.network == UNPROMPTED:
        logger.warning(
            "This network was trained and scored with points from the ground truth; "
            "nnmedseg_predict gives it none, so expect poor masks"
        )
    logger.info("Use it with: nnmedseg_predict -i IMAGES -o MASKS -m %s", model)
