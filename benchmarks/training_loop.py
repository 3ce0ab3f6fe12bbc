"""What our trainer costs beside nnU-Net's own, around the same network on the same data.

Trains nnU-Net's U-Net without deep supervision through ``nnUNetTrainerNoDeepSupervision`` and
through ``MedSegTrainer`` (with nnU-Net's recipe), in one process, epoch by epoch in turns, and
prints seconds per iteration of each and the median of the ratios. Data are the demo's images.

    python benchmarks/training_loop.py [--epochs 8] [--iterations 20]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import nnmedseg
from nnmedseg.devices import choose_device
from nnmedseg.files import read_json
from nnmedseg.nnunet import prepare
from nnmedseg.paths import resolve

WORKING_SIZE = 96
WARM_UP_EPOCHS = 1


def build_trainers(workspace: Path, iterations: int, epochs: int, device: str | None) -> list[Any]:
    """Return nnU-Net's trainer and ours, ready to train, on the same plans."""
    folders = resolve(workspace)
    nnmedseg.convert("ISIC2018", str(files("nnmedseg") / "demo_data" / "ISIC2018"), folders=folders)
    nnmedseg.plan_and_preprocess(
        2, trainers=["nnUNetTrainer"], working_size=WORKING_SIZE, folders=folders
    )
    from nnmedseg.trainers import find_trainer  # noqa: PLC0415 - after nnU-Net's variables are set
    from nnmedseg.trainers.base import MedSegTrainer, apply_recipe  # noqa: PLC0415
    from nnmedseg.trainers.recipes import NNUNET  # noqa: PLC0415

    preprocessed = folders.preprocessed / folders.dataset_name(2)
    recipe = NNUNET.changed({"iterations": iterations, "epochs": epochs})
    trainers = []
    for trainer_class in (find_trainer("nnUNetTrainerNoDeepSupervision"), MedSegTrainer):
        plans = read_json(preprocessed / "nnUNetPlans.json") | {"continue_training": False}
        description = read_json(preprocessed / "dataset.json")
        trainer = trainer_class(plans, "2d", "all", description, choose_device(device))
        apply_recipe(trainer, recipe)
        trainer.on_train_start()
        trainers.append(trainer)
    return trainers


def train_epoch(trainer: Any) -> float:
    """Train one epoch as nnU-Net's loop does, and return its seconds."""
    start = time.perf_counter()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    outputs = [
        trainer.train_step(next(trainer.dataloader_train))
        for _ in range(trainer.num_iterations_per_epoch)
    ]
    trainer.on_train_epoch_end(outputs)
    seconds = time.perf_counter() - start
    trainer.current_epoch += 1
    trainer.logger.log("epoch_end_timestamps", time.time(), trainer.current_epoch - 1)
    return seconds


def main() -> None:
    """Print the seconds of an iteration in both trainers and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--device")
    options = parser.parse_args()
    prepare(augmentation_workers=0)  # both load in this process: neither waits for the other
    with tempfile.TemporaryDirectory() as folder:
        epochs = WARM_UP_EPOCHS + options.epochs
        stock, ours = build_trainers(Path(folder), options.iterations, epochs, options.device)
        for _ in range(WARM_UP_EPOCHS):
            train_epoch(stock)
            train_epoch(ours)
        pairs = [(train_epoch(stock), train_epoch(ours)) for _ in range(options.epochs)]
    peer, mine = (
        statistics.median(seconds) / options.iterations for seconds in zip(*pairs, strict=True)
    )
    ratio = statistics.median(second / first for first, second in pairs)
    print(f"nnU-Net's trainer  {peer:.4f} s per iteration")
    print(f"our trainer        {mine:.4f} s per iteration")
    print(f"ratio              {ratio:.3f} (median of {options.epochs} pairs; goal <= 1.05)")


if __name__ == "__main__":
    main()
