"""``nnmedseg_env``: one line that makes nnU-Net's own commands find our trainers and the data."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from nnmedseg.cli import _command


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, print the line, and return the exit code."""
    parser = _command.new_parser(
        "Print the line that makes nnUNetv2_train, nnUNetv2_predict and so on find nnmedseg's "
        'trainers and folders. In bash: eval "$(nnmedseg_env)"'
    )
    parser.add_argument(
        "--shell",
        choices=("sh", "fish", "powershell", "cmd"),
        default="sh",
        help="whose syntax to print (default: sh, which bash and zsh read too)",
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import paths
    from nnmedseg.nnunet.environment import external_trainers

    folders = paths.resolve(options.workspace)
    variables = {"nnUNet_extTrainer": external_trainers()}
    for kind, name in paths.VARIABLES.items():
        variables[name] = str(getattr(folders, kind))
    sys.stdout.write(_assignment(variables, options.shell) + "\n")


def _assignment(variables: dict[str, str], shell: str) -> str:
    if shell == "powershell":
        return "; ".join(
            "$env:{} = '{}'".format(name, value.replace("'", "''"))
            for name, value in variables.items()
        )
    if shell == "cmd":
        return " & ".join(f'set "{name}={value}"' for name, value in variables.items())
    if shell == "fish":
        return "; ".join(
            f"set -gx {name} {shlex.quote(value)}" for name, value in variables.items()
        )
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
