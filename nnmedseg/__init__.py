"""nnmedseg: find out which published architecture segments your images best, and run it.

One function a command; each imports what it needs when it is called, so that importing the package
costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmedseg._ensemble import ensemble
from nnmedseg._predict import predict
from nnmedseg._share import export, install
from nnmedseg._train import train

if TYPE_CHECKING:
    from nnmedseg.data.integrity import Report
    from nnmedseg.dataset_conversion.overlap import OverlapReport
    from nnmedseg.inference.arrays import Predictor
    from nnmedseg.paths import Folders

__all__ = [
    "Predictor",
    "check_overlap",
    "convert",
    "ensemble",
    "evaluate",
    "export",
    "find_postprocessing",
    "import_weights",
    "install",
    "plan",
    "plan_and_preprocess",
    "predict",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import :class:`Predictor` when it is first asked for."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.inference.arrays import Predictor

    return Predictor


def convert(
    name: str,
    source: str | Path | None = None,
    *,
    dataset_id: int | None = None,
    folders: Folders | None = None,
    num_processes: int | None = None,
    overwrite: bool = False,
    split: str | None = None,
    skip_broken: bool = False,
    allow_leaks: bool = False,
    **options: Any,
) -> Path:
    """Turn a downloaded data set, or images of your own, into nnU-Net's raw format.

    Args:
        name: Data set, for instance ``"ISIC2018"``.
        source: Download folder (default ``./data/NAME``).
        dataset_id: Number of the data set instead of its usual one.
        folders: Where data are kept (default: see :func:`nnmedseg.paths.resolve`).
        num_processes: Processes or threads that work at once (default: one a core).
        overwrite: Replace what an earlier conversion of other files has left.
        split: Name of a paper's division of the cases instead of the official one.
        skip_broken: Leave out cases with problems and record them, instead of refusing.
        allow_leaks: Keep training images that are also test images in the folds.
        **options: Of the data set, see :class:`nnmedseg.dataset_conversion.base.Options`.

    Returns:
        The folder ``DatasetNNN_Name``.
    """
    from nnmedseg import dataset_conversion, paths
    from nnmedseg.dataset_conversion.base import Options

    return dataset_conversion.convert(
        name,
        source,
        dataset_id=dataset_id,
        folders=paths.use(folders),
        num_processes=num_processes,
        overwrite=overwrite,
        split=split,
        skip_broken=skip_broken,
        allow_leaks=allow_leaks,
        options=Options(**options),
    )


def verify(
    dataset: int | str, *, num_processes: int | None = None, folders: Folders | None = None
) -> Report:
    """Check every file of a data set in nnU-Net's raw format, whoever made it.

    Args:
        dataset: Number or name of the data set.
        num_processes: Cases that are read at once (default: one a core).
        folders: Where data are kept.

    Returns:
        All problems, by file.
    """
    from nnmedseg import paths
    from nnmedseg.data.integrity import verify_dataset

    folders = paths.use(folders)
    return verify_dataset(folders.raw / folders.dataset_name(dataset), num_workers=num_processes)


def check_overlap(
    datasets: Sequence[int | str],
    *,
    num_processes: int | None = None,
    folders: Folders | None = None,
) -> OverlapReport:
    """Find images that data sets share, or the training and test part of one.

    Args:
        datasets: Numbers or names of raw data sets.
        num_processes: Images that are read at once (default: one a core).
        folders: Where data are kept.

    Returns:
        The pairs of images, and what they mean for training on one part and testing on another.
    """
    from nnmedseg import paths
    from nnmedseg.dataset_conversion.overlap import check_overlap as run

    return run(datasets, folders=paths.use(folders), num_workers=num_processes)


def plan(
    dataset: int | str,
    *,
    trainers: Sequence[str] | None = None,
    gpu_memory: float = 8.0,
    working_size: int | None = None,
    verify: bool = True,
    num_processes: int | None = None,
    folders: Folders | None = None,
) -> list[Path]:
    """Fingerprint a data set and plan it for each trainer.

    Args:
        dataset: Number or name of a converted data set.
        trainers: Trainers to plan for (default: all, nnU-Net's own included).
        gpu_memory: Memory that a training step may use, in GiB.
        working_size: Shorter side that photographs are brought to, in pixels (default: what the
            rule of :mod:`nnmedseg.planners.resolution` finds).
        verify: Check every raw file first, unless that was done and no file has changed.
        num_processes: Cases that are worked on at once (default: one a core).
        folders: Where data are kept.

    Returns:
        The plans files, one a trainer.
    """
    from nnmedseg import nnunet, paths

    folders = paths.use(folders)
    nnunet.prepare()
    from nnmedseg.cores import cpu_count
    from nnmedseg.planners.architecture import Architecture
    from nnmedseg.planners.pipeline import plan as run
    from nnmedseg.trainers import (
        NNUNET_TRAINER,
        available_trainers,
        default_plans_name,
        find_trainer,
    )
    from nnmedseg.training.stages import with_first_stages

    names = trainers or [*(found.__name__ for found in available_trainers()), NNUNET_TRAINER]
    architectures: dict[str, Architecture] = {}
    for trainer in with_first_stages(map(find_trainer, names)):
        plans_name = default_plans_name(trainer)
        recipe = getattr(trainer, "recipe", None)
        papers = getattr(trainer, "paper_recipes", {})
        architectures[plans_name] = Architecture(
            plans_name,
            trainer=trainer.__name__,
            network=getattr(trainer, "network_name", None),
            options=dict(getattr(trainer, "network_options", {})),
            recipe=recipe.to_dict() if recipe is not None else {},
            paper_recipes={name: paper.to_dict() for name, paper in papers.items()},
        )
    return run(
        folders.dataset_name(dataset),
        list(architectures.values()),
        folders=folders,
        gpu_memory=gpu_memory,
        working_size=working_size,
        num_workers=num_processes or cpu_count(),
        verify=verify,
    )


def plan_and_preprocess(
    dataset: int | str,
    *,
    configurations: Sequence[str] = ("2d",),
    num_processes: int | None = None,
    folders: Folders | None = None,
    **planning: Any,
) -> list[Path]:
    """Plan a data set for each trainer, and preprocess it once for all of them.

    Args:
        dataset: Number or name of a converted data set.
        configurations: What to preprocess: ``"2d"``, ``"2d_native"``, ``"2d_paper"`` and, for
            volumes, ``"3d_fullres"`` and ``"3d_lowres"``. All of them are planned.
        num_processes: Cases that are worked on at once (default: one a core).
        folders: Where data are kept.
        **planning: Other arguments of :func:`plan`.

    Returns:
        The plans files, one a trainer.
    """
    from nnmedseg import paths

    folders = paths.use(folders)
    plans_files = plan(dataset, num_processes=num_processes, folders=folders, **planning)
    from nnmedseg.cores import cpu_count
    from nnmedseg.planners.pipeline import preprocess_configurations

    preprocess_configurations(
        folders.dataset_name(dataset),
        plans_files,
        configurations,
        folders=folders,
        num_workers=num_processes or cpu_count(),
    )
    return plans_files


def evaluate(
    predictions: str | Path, references: str | Path, output: str | Path | None = None
) -> dict[str, Any]:
    """Compare predicted masks with reference masks, case by case.

    Args:
        predictions: Folder of predicted masks (NIfTI or PNG).
        references: Folder of reference masks with the same names.
        output: CSV file for the metrics (default ``metrics.csv`` in the predictions' folder).

    Returns:
        The mean of each metric over the cases, by label.
    """
    from nnmedseg.evaluation.metrics import evaluate_folder

    return evaluate_folder(predictions, references, output)


def find_postprocessing(
    model: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    references: str | Path | None = None,
    folders: Folders | None = None,
) -> dict[str, Any]:
    """Learn which post-processing helps a model, on the validation of its folds.

    What helped is written to ``postprocessing.json`` in the model folder, where :func:`predict`
    finds it. See :mod:`nnmedseg.inference.postprocessing.choice` for what counts as help.

    Args:
        model: Model folder ``Trainer__Plans__configuration``.
        folds: Folds to learn on, two at least (default: all that are validated).
        references: Folder of the reference masks (default: the data set's own in ``folders``).
        folders: Where data are kept.

    Returns:
        The content of that file: ``targets`` with the steps, and the ``evidence`` for all that were
        tried.
    """
    from nnmedseg import nnunet, paths

    folders = paths.use(folders)
    nnunet.prepare()
    from nnmedseg.inference.postprocessing.search import learn_postprocessing
    from nnmedseg.inference.validation_folds import held_out_cases, model_file, references_of

    model = Path(model)
    ending = model_file(model, "dataset.json")["file_ending"]
    masks = references_of(model, folders) if references is None else Path(references)
    return learn_postprocessing(model, held_out_cases(model, masks, ending, folds))


def import_weights(
    name: str,
    checkpoint: str | Path,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Make a model folder for :func:`predict` of a checkpoint that a paper's authors trained.

    Args:
        name: Network that the checkpoint belongs to, for instance ``"rosper"``.
        checkpoint: The authors' file.
        output: The model folder to make.
        size: Height and width that images are brought to (default: the paper's).
        overwrite: Replace what an earlier import has made.
        **options: Options of the network that the file does not tell.

    Returns:
        The model folder.
    """
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.weights.model_folder import import_weights as run

    return run(name, checkpoint, output, size=size, overwrite=overwrite, **options)
