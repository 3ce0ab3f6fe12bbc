"""The options that the commands which plan have in common."""

from __future__ import annotations

import argparse
from typing import Any

from nnmedseg.cli import _command


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add data sets, trainers, memory, working size, verification and processes."""
    parser.add_argument(
        "-d", "--dataset", nargs="+", required=True, metavar="ID", help="numbers or names"
    )
    parser.add_argument(
        "-tr",
        "--trainer",
        nargs="+",
        metavar="TRAINER",
        help="trainers to plan for (default: all, nnU-Net's own included)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=_command.positive_float,
        default=8.0,
        metavar="GIB",
        help="memory that a training step may use (default: 8)",
    )
    parser.add_argument(
        "--working-size",
        type=_command.positive_int,
        metavar="PIXELS",
        help="shorter side that photographs are brought to (default: 512, more where small "
        "structures need it, never more than the median image has)",
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="check every raw file first, once (default: --verify)",
    )
    _command.add_plugin(parser)
    _command.add_num_processes(parser)


def planning_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`nnmedseg.plan` that the options say."""
    return {
        "trainers": options.trainer,
        "gpu_memory": options.gpu_memory,
        "working_size": options.working_size,
        "verify": options.verify,
        "num_processes": options.num_processes,
    }
