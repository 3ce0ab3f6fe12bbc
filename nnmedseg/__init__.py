"""nnmedseg: find out which published architecture segments your images best, and run it.

One function a command; each imports what it needs when it is called, so that importing the package
costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnmedseg.data.integrity import Report
    from nnmedseg.dataset_conversion.overlap import OverlapReport
    from nnmedseg.inference.manifest import Manifest
    from nnmedseg.paths import Folders

__all__ = [
    "check_overlap",
    "convert",
    "evaluate",
    "import_weights",
    "plan",
    "plan_and_preprocess",
    "predict",
    "train",
    "verify",
]


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
        folders=folders or paths.resolve(),
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

    folders = folders or paths.resolve()
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

    return run(datasets, folders=folders or paths.resolve(), num_workers=num_processes)


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

    folders = folders or paths.resolve()
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
    from nnmedseg.trainers.stages import with_first_stages

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

    folders = folders or paths.resolve()
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


def train(
    dataset: int | str,
    configuration: str = "2d",
    fold: int | str = 0,
    *,
    trainer: str = "nnUNetTrainer",
    plans: str | None = None,
    batch_size: int | None = None,
    patch_size: Sequence[int] | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int | None = None,
    encoder_weights: str | Path = "paper",
    stage: int | None = None,
    device: str | None = None,
    num_gpus: int = 1,
    compile_network: bool | None = None,
    workers: int | None = None,
    val_every: int = 1,
    save_every: int = 1,
    panel_every: int = 10,
    trackers: Mapping[str, str | None] | None = None,
    overwrite: bool = False,
    must_continue: bool = False,
    folders: Folders | None = None,
) -> Path:
    """Train one fold and validate it; called again, go on where it was interrupted.

    Args:
        dataset: Number or name of a planned data set.
        configuration: Configuration in the plans.
        fold: 0 to 4, ``"all"`` or ``"official"``.
        trainer: Class name of the trainer.
        plans: Plans file without its ending (default: the trainer's own).
        batch_size: Images in a batch instead of the plan's.
        patch_size: Sides of the patches in pixels or voxels instead of the plan's.
        recipe: Numbers of :class:`nnmedseg.trainers.recipes.Recipe` instead of the plan's.
        seed: Makes the run repeatable on the same machine; data are then loaded by one process.
        encoder_weights: What the training starts from: ``"paper"`` for the weights that the paper
            starts from, if it does, ``"none"`` for random ones, or a file.
        stage: 1 to train the first stage alone, where the trainer has two (see
            :mod:`nnmedseg.trainers.stages`).
        device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
        num_gpus: Processes to start on this machine, one a device.
        compile_network: Whether to compile the network (default: the trainer's own choice).
        workers: Processes that load training data (default: by the number of cores).
        val_every: Validate on patches in every so manieth epoch, and in the first and the last.
        save_every: Write the latest checkpoint after every so manieth epoch.
        panel_every: Draw validation images with outlines after every so manieth epoch, and after
            the last; 0 for never.
        trackers: Where figures go besides the fold's folder: ``"mlflow"`` with the URI of its
            store, ``"wandb"`` with a project, or ``None`` for their usual ones.
        overwrite: Delete an earlier run of the same name; a finished first stage stays unless it
            alone is trained.
        must_continue: Refuse to start from the beginning.
        folders: Where data are kept.

    Returns:
        The fold's folder with checkpoints, logs and ``validation/summary.json``.
    """
    from nnmedseg import nnunet, paths

    folders = folders or paths.resolve()
    nnunet.prepare()
    from nnmedseg.devices import choose_device
    from nnmedseg.trainers import default_plans_name, find_trainer
    from nnmedseg.trainers.settings import RunSettings, parse_fold
    from nnmedseg.trainers.stages import train as run
    from nnmedseg.trainers.trackers import check_installed

    check_installed(trackers or {})
    name = folders.dataset_name(dataset)
    trainer_class = find_trainer(trainer)
    settings = RunSettings(
        dataset_name=name,
        configuration=configuration,
        fold=parse_fold(str(fold), folders, name),
        trainer_name=trainer_class.__name__,
        plans_name=plans or default_plans_name(trainer_class),
        batch_size=batch_size,
        patch_size=None if patch_size is None else tuple(patch_size),
        recipe=recipe or {},
        seed=seed,
        encoder_weights=str(encoder_weights),
        num_gpus=num_gpus,
        compile_network=compile_network,
        workers=workers,
        val_every=val_every,
        save_every=save_every,
        panel_every=panel_every,
        trackers=trackers or {},
    )
    return run(
        settings,
        folders=folders,
        device=choose_device(device),
        overwrite=overwrite,
        must_continue=must_continue,
        stage=stage,
    )


def predict(
    images: str | Path,
    output: str | Path,
    model: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
    device: str | None = None,
    mirroring: bool = True,
    png: bool = False,
    overwrite: bool = False,
    prompts: str | Path | None = None,
    prompts_from: str | Path | None = None,
) -> Manifest:
    """Segment every image of a folder.

    Args:
        images: Folder of PNG, JPEG, BMP, TIFF or NIfTI images, or one image.
        output: Folder for the masks.
        model: Model folder ``Trainer__Plans__configuration``.
        folds: Folds whose logits are averaged (default: all that are trained).
        checkpoint: ``"final"`` or ``"best"``.
        device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
        mirroring: Average over mirrored copies of each image, as nnU-Net does.
        png: Also write each mask as PNG.
        overwrite: Predict again what an earlier run has completed.
        prompts: JSON file of points, for a model that takes some; see
            :class:`nnmedseg.inference.prompts.PromptsFromFile`.
        prompts_from: Folder of masks with the images' names to draw the points from: predictions
            of an oracle where these are the references.

    Returns:
        What became of each image.
    """
    from nnmedseg import nnunet

    nnunet.prepare()
    from nnmedseg.devices import choose_device
    from nnmedseg.inference.folder import predict_folder
    from nnmedseg.inference.predictor import MedSegPredictor
    from nnmedseg.inference.prompts import open_prompts

    predictor = MedSegPredictor.from_folder(
        model, folds, checkpoint=checkpoint, device=choose_device(device), mirroring=mirroring
    )
    return predict_folder(
        predictor,
        images,
        output,
        png=png,
        overwrite=overwrite,
        prompts=open_prompts(predictor, prompts, prompts_from),
    )


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
