"""``nnmedseg_train``: one fold of one trainer."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    parser = _command.new_parser(
        "Train one fold. Run again after an interruption, the command goes on where it stopped."
    )
    parser.add_argument("dataset", nargs="?", help="number or name of a planned data set")
    parser.add_argument(
        "configuration",
        nargs="?",
        help="configuration in the plans: 2d, the same recipe for every network, 2d_paper, that of "
        "the network's paper, or another one",
    )
    parser.add_argument(
        "fold", nargs="?", help="0 to 4, 'all', or 'official' where the data set has it"
    )
    parser.add_argument("--list", action="store_true", help="list the trainers, train nothing")
    parser.add_argument(
        "-tr",
        "--trainer",
        default="nnUNetTrainer",
        help="trainer, for instance RoSPERTrainer (default: nnUNetTrainer, nnU-Net's own network)",
    )
    parser.add_argument("-p", "--plans", help="plans (default: the trainer's own)")
    _command.add_plugin(parser)
    _add_recipe_options(parser)
    _add_watching_options(parser)
    _add_speed_options(parser)
    parser.add_argument(
        "--encoder-weights",
        default="paper",
        metavar="{paper,none,FILE}",
        help="what the training starts from: the weights that the paper starts from, if it does "
        "(default; downloaded), random ones, or a file. Of two stages it is the first that starts "
        "from them; the checkpoint of a first stage takes its place",
    )
    parser.add_argument(
        "--stage",
        type=int,
        choices=(1,),
        help="train the first of two stages alone (ConDSegTrainer); without it both are trained, "
        "one after the other",
    )
    parser.add_argument("--seed", type=int, help="make the run repeatable; loads data in 1 process")
    _command.add_device(parser)
    parser.add_argument(
        "-num_gpus",
        "--num-gpus",
        type=_command.positive_int,
        default=1,
        metavar="N",
        help="train on N GPUs of this machine, which share each batch (default: 1); for several "
        "machines start the command with torchrun",
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--continue",
        dest="must_continue",
        action="store_true",
        help="go on with an earlier run, and fail if there is none",
    )
    earlier.add_argument(
        "--overwrite",
        action="store_true",
        help="delete an earlier run of this fold; with two stages, a finished first one stays "
        "unless --stage 1 is given",
    )
    return _command.run(parser, _run, arguments)


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe", "what to use instead of the plan's")
    group.add_argument("--epochs", type=_command.positive_int, metavar="N")
    group.add_argument(
        "--iterations", type=_command.positive_int, metavar="N", help="batches in an epoch"
    )
    group.add_argument("--batch-size", type=_command.positive_int, metavar="N")
    group.add_argument(
        "--patch-size",
        type=_command.positive_int,
        nargs="+",
        metavar="PIXELS",
        help="sides of the patches: height and width, for 3D configurations depth before them",
    )
    group.add_argument("--lr", type=_command.positive_float, metavar="RATE")
    group.add_argument("--weight-decay", type=_command.not_negative_float, metavar="DECAY")
    group.add_argument("--optimizer", choices=("sgd", "adam", "adamw"))
    group.add_argument(
        "--scheduler", choices=("poly", "cosine", "cosine_restarts", "plateau", "constant")
    )
    group.add_argument(
        "--augmentation", metavar="NAME", help="nnunet, none, or a paper's, for instance rosper"
    )
    group.add_argument(
        "--as-released",
        action="store_true",
        help="with 2d_paper: the loss (of HeteroMedSeg with several classes, the augmentation) "
        "with the faults of the authors' released code, to reproduce their numbers",
    )


def _add_speed_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speed", "how the network is computed and fed")
    group.add_argument(
        "--precision",
        choices=("mixed", "fp32", "fp16", "bf16"),
        help="numbers that the network computes in; mixed, nnU-Net's, is fp16 on CUDA and fp32 "
        "elsewhere (default: the plan's)",
    )
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the network (default: nnU-Net's own trainers do so on CUDA, ours do not)",
    )
    group.add_argument(
        "--workers",
        type=_command.not_negative_int,
        metavar="N",
        help="processes that load training data, and half as many for validation; 0 for none "
        "(default: by the number of cores)",
    )


def _add_watching_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("watching", "what is looked at and kept, and how often")
    group.add_argument(
        "--val-every",
        type=_command.positive_int,
        default=1,
        metavar="N",
        help="validate on patches in every Nth epoch, and in the first and the last (default: 1)",
    )
    group.add_argument(
        "--save-every",
        type=_command.positive_int,
        default=1,
        metavar="N",
        help="write the latest checkpoint after every Nth epoch (default: 1)",
    )
    group.add_argument(
        "--panel-every",
        type=_command.not_negative_int,
        default=10,
        metavar="N",
        help="draw four validation images with outlines after every Nth epoch, and after the last "
        "(default: 10; 0 for never)",
    )
    group.add_argument(
        "--mlflow",
        nargs="?",
        const="",
        metavar="URI",
        help="send the figures of each epoch to MLflow (default: its variable MLFLOW_TRACKING_URI, "
        "else the folder mlruns in the results)",
    )
    group.add_argument(
        "--wandb",
        nargs="?",
        const="",
        metavar="PROJECT",
        help="send them to Weights & Biases (default: its variable WANDB_PROJECT, else nnmedseg)",
    )


def _run(options: argparse.Namespace) -> int:
    if options.list:
        _list_trainers()
        return 0
    _check_named(options)
    from nnmedseg.training.interruption import Interrupted
    from nnmedseg.training.place import (
        one_report_of_failure,
        place_from_environment,
        quiet_unless_first,
    )

    place = place_from_environment()
    try:
        with one_report_of_failure(place), quiet_unless_first(place):
            _train(options)
    except Interrupted as error:
        return error.exit_code
    return 0


def _list_trainers() -> None:
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.trainers.table import describe_trainers

    for line in describe_trainers():
        logger.info("%s", line)


def _check_named(options: argparse.Namespace) -> None:
    from nnmedseg.errors import UserError

    missing = [
        name for name in ("dataset", "configuration", "fold") if getattr(options, name) is None
    ]
    if missing:
        raise UserError(
            f"what to train is not said: {', '.join(missing)}",
            where="the command line",
            mend="for instance: nnmedseg_train 2 2d 0 -tr RoSPERTrainer (--list shows the "
            "trainers)",
        )


def _train(options: argparse.Namespace) -> None:
    from nnmedseg import paths, train

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    recipe = {
        "epochs": options.epochs,
        "iterations": options.iterations,
        "initial_lr": options.lr,
        "weight_decay": options.weight_decay,
        "optimizer": options.optimizer,
        "scheduler": options.scheduler,
        "augmentation": options.augmentation,
        "precision": options.precision,
        "loss_form": "released" if options.as_released else None,
    }
    fold_folder = train(
        options.dataset,
        options.configuration,
        options.fold,
        trainer=options.trainer,
        plans=options.plans,
        batch_size=options.batch_size,
        patch_size=options.patch_size,
        recipe={name: value for name, value in recipe.items() if value is not None},
        seed=options.seed,
        compile_network=options.compile,
        workers=options.workers,
        encoder_weights=options.encoder_weights,
        stage=options.stage,
        device=options.device,
        num_gpus=options.num_gpus,
        val_every=options.val_every,
        save_every=options.save_every,
        panel_every=options.panel_every,
        trackers={
            name: place or None
            for name in ("mlflow", "wandb")
            if (place := getattr(options, name)) is not None
        },
        overwrite=options.overwrite,
        must_continue=options.must_continue,
        folders=folders,
    )
    logger.info("Model: %s", fold_folder)


if __name__ == "__main__":  # as torchrun -m starts it
    sys.exit(main())
