"""What every command shares: logging, the workspace option, and errors as exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from nnmedseg.errors import UserError

EXIT_INTERRUPTED = 130


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the option of every command that uses the three folders."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        help="folder with raw, preprocessed and results (default: nnU-Net's variables nnUNet_raw, "
        "nnUNet_preprocessed and nnUNet_results, and ./nnmedseg_workspace where they are unset)",
    )
    return parser


def add_num_processes(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-processes``."""
    parser.add_argument(
        "--num-processes",
        type=positive_int,
        metavar="N",
        help="cases that are worked on at once (default: one a core)",
    )


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add ``--plugin``, which `run` loads."""
    parser.add_argument(
        "--plugin",
        action="append",
        metavar="FILE",
        help="Python file with trainers of your own; can be given several times",
    )


def add_outputs(parser: argparse.ArgumentParser, *, probabilities: str, uncertainty: str) -> None:
    """Add the options that say what is written beside the masks.

    Args:
        parser: Gets the options.
        probabilities: What is said of them.
        uncertainty: What is said of it.
    """
    parser.add_argument(
        "--png",
        action="store_true",
        help="also write PNG: 0 and 255 for one class, labels for several",
    )
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="also write a picture of each image with the outlines of its labels",
    )
    parser.add_argument(
        "--probabilities",
        nargs="?",
        const="float16",
        choices=("float16", "uint8"),
        help=f"{probabilities}, as float16 (the default) or in steps of 1/255",
    )
    parser.add_argument("--uncertainty", action="store_true", help=f"{uncertainty}, from 0 to 1")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, which nnU-Net's commands spell with one dash."""
    parser.add_argument(
        "-device",
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="where the network runs (default: the first of cuda, mps, cpu that is there)",
    )


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int | None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the arguments, run the command and return its exit code.

    A `UserError` is printed to stderr as one message without a traceback and gives its exit code.
    """
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("nnmedseg").setLevel(logging.INFO)
    # Packages that nnU-Net imports use PyTorch's old just-in-time compiler; users cannot mend that.
    warnings.filterwarnings("ignore", message="`torch.jit")
    try:
        if getattr(parsed, "plugin", None):
            _load_plugins(parsed.plugin)
        return command(parsed) or 0
    except UserError as error:
        sys.stdout.flush()
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        return EXIT_INTERRUPTED


def _load_plugins(files: Sequence[str]) -> None:
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.trainers.plugins import add_plugin

    for file in files:
        add_plugin(file)


def positive_int(text: str) -> int:
    """Parse an argument that must be 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, not {text!r}")
    return value


def not_negative_int(text: str) -> int:
    """Parse an argument that must be 0 or more."""
    return 0 if text == "0" else positive_int(text)


def not_negative_float(text: str) -> float:
    """Parse an argument that must be at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of at least 0 is needed, not {text!r}")
    return value


def positive_float(text: str) -> float:
    """Parse an argument that must be above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return value
