"""Which trained model a command is about: ``-d -c -tr -p`` or ``-m``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnmedseg.cli import _command
from nnmedseg.errors import UserError
from nnmedseg.paths import Folders


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a model."""
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


def model_folder(options: argparse.Namespace, folders: Folders) -> Path:
    """Return the folder of the model that the options name.

    Raises:
        UserError: They name none.
    """
    if options.model is not None:
        return Path(options.model)
    if options.dataset is None:
        raise UserError(
            "no model was named", where="the command line", mend="give -d, -c and -tr, or -m"
        )
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.trainers import default_plans_name, find_trainer

    trainer = find_trainer(options.trainer)
    plans = options.plans or default_plans_name(trainer)
    name = f"{trainer.__name__}__{plans}__{options.configuration}"
    return folders.results / folders.dataset_name(options.dataset) / name
