"""nnU-Net's own commands on our model folders, after the one line that nnmedseg_env prints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import nnmedseg

from .conftest import Workspace

pytestmark = pytest.mark.slow

SCRIPTS = Path(sys.executable).parent


def in_shell(command: str, folder: Path, workspace: Path) -> str:
    """Run a command in a shell that knows nothing but the exported line."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("nnUNet")
    }
    environment["PATH"] = f"{SCRIPTS}{os.pathsep}{environment['PATH']}"
    script = f'set -e; eval "$(nnmedseg_env --workspace {workspace})"; {command}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_labels(model: Workspace, tmp_path: Path, options: str) -> None:
    """Compare the masks of nnU-Net's command with ours."""
    images, configuration = model.dataset / "imagesTs", model.model.name.rpartition("__")[2]
    in_shell(
        f"nnUNetv2_predict -i {images} -o stock -d 2 -c {configuration} -tr RoSPERTrainer "
        f"-p RoSPERPlans -f 0 -device cpu {options}",
        tmp_path,
        model.root,
    )
    nnmedseg.predict(images, tmp_path / "ours", model.model, folds=[0], device="cpu")
    stock = sorted((tmp_path / "stock").glob("*.png"))
    assert len(stock) == 2
    for path in stock:
        ours = SimpleITK.ReadImage(str(tmp_path / "ours" / f"{path.stem}.nii.gz"))
        differs = np.array(Image.open(path)) != SimpleITK.GetArrayFromImage(ours)[0]
        # Our networks are fused, so that a pixel between two classes may round to the other one.
        assert differs.mean() <= 1e-4


def test_nnunets_sequential_prediction_gives_our_labels(trained, tmp_path):
    check_labels(trained, tmp_path, "-npp 0 -nps 0")


@pytest.mark.parametrize("options", ["", "-npp 0 -nps 0"], ids=["parallel", "sequential"])
def test_nnunets_prediction_gives_our_labels_at_the_images_own_resolution(
    trained_native, tmp_path, options
):
    check_labels(trained_native, tmp_path, options)


OWN_TRAINER = """
import torch
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args("2", "2d", 0, "nnUNetTrainer", device=torch.device("cpu"))
trainer.num_epochs = trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
trainer.run_training()
"""


def test_nnunets_own_trainer_reads_our_store_knowing_only_the_plans(fresh, tmp_path):
    (tmp_path / "train.py").write_text(OWN_TRAINER)
    in_shell(f"nnUNet_n_proc_DA=0 {sys.executable} train.py", tmp_path, fresh.root)
    model = fresh.folders.results / fresh.dataset.name / "nnUNetTrainer__nnUNetPlans__2d"
    assert (model / "fold_0" / "checkpoint_final.pth").is_file()


def test_nnunets_training_finds_our_trainer(fresh, tmp_path):
    plans = fresh.preprocessed / "RoSPERPlans.json"
    text = plans.read_text().replace('"epochs": 1000', '"epochs": 1')
    plans.write_text(text.replace('"iterations": 250', '"iterations": 1'))
    in_shell(
        "nnUNet_n_proc_DA=0 nnUNetv2_train 2 2d 0 -tr RoSPERTrainer -p RoSPERPlans -device cpu",
        tmp_path,
        fresh.root,
    )
    model = fresh.folders.results / fresh.dataset.name / "RoSPERTrainer__RoSPERPlans__2d"
    assert (model / "fold_0" / "checkpoint_final.pth").is_file()


def test_nnunets_evaluation_tools_read_our_validation(trained, tmp_path):
    folder = trained.model / "fold_0" / "validation"
    in_shell(
        f"nnUNetv2_evaluate_folder {trained.preprocessed / 'gt_segmentations'} {folder} "
        f"-djfile {trained.model / 'dataset.json'} -pfile {trained.model / 'plans.json'} "
        f"-o {tmp_path / 'summary.json'} --chill",
        tmp_path,
        trained.root,
    )
    assert (tmp_path / "summary.json").is_file()
