"""The API's ``train``, which has the most to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnmedseg.paths import Folders


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
            :mod:`nnmedseg.training.stages`).
        device: ``"cuda"``, ``"mps"`` or ``"cpu"`` (default: the first that is there).
        num_gpus: Processes to start on this machine, one a device.
        compile_network: Whether to compile the network (default: the trainer's own choice).
        workers: Processes that load training data (default: by the number of cores).
        val_every: Validate on patches in every Nth epoch, and in the first and the last.
        save_every: Write the latest checkpoint after every Nth epoch.
        panel_every: Draw validation images with outlines after every Nth epoch, and after
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

    folders = paths.use(folders)
    nnunet.prepare()
    from nnmedseg.devices import choose_device
    from nnmedseg.trainers import default_plans_name, find_trainer
    from nnmedseg.training.settings import RunSettings, parse_fold
    from nnmedseg.training.stages import train as run
    from nnmedseg.training.trackers import check_installed

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
