"""One small workspace, made once by the commands themselves."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import nnmedseg
from nnmedseg.files import read_json, write_json
from nnmedseg.paths import Folders, resolve

DATA = Path(__file__).parents[1] / "data" / "ISIC2018"
SMALL_OPTIONS = Path(__file__).parents[1] / "networks" / "small_options.json"
WORKING_SIZE = 32  # the patch is 32 x 48, so that a training step takes a fraction of a second
SHORT = {"epochs": 1, "iterations": 2}
NNUNET_VARIABLES = (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
    "nnUNet_extTrainer",
    "nnUNet_n_proc_DA",
    "nnUNet_def_n_proc",
)


@dataclass(frozen=True)
class Workspace:
    """A workspace with a trained model."""

    folders: Folders
    dataset: Path
    model: Path

    @property
    def root(self) -> Path:
        return self.folders.raw.parent

    @property
    def preprocessed(self) -> Path:
        return self.folders.preprocessed / self.dataset.name


@pytest.fixture(scope="session", autouse=True)
def _restored_environment():
    before = {name: os.environ.get(name) for name in NNUNET_VARIABLES}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def make_small(plans_file: Path) -> None:
    """Plan for a network whose training step takes a fraction of a second; ViT-B's a minute."""
    plans = read_json(plans_file)
    for configuration in plans["configurations"].values():
        arguments = configuration.get("architecture", {}).get("arch_kwargs", {})
        if "network" in arguments:
            arguments.update(read_json(SMALL_OPTIONS)[arguments["network"]])
    write_json(plans, plans_file)


@pytest.fixture(scope="session")
def planned(tmp_path_factory) -> Workspace:
    folders = resolve(tmp_path_factory.mktemp("workspace"))
    dataset = nnmedseg.convert("ISIC2018", DATA, folders=folders)
    nnmedseg.plan_and_preprocess(2, working_size=WORKING_SIZE, folders=folders)
    for paper in ("ConDSeg", "ProMISe"):
        for plans in (folders.preprocessed / dataset.name).glob(f"{paper}*.json"):
            make_small(plans)
    return Workspace(folders, dataset, folders.results / "none")


@pytest.fixture(scope="session")
def trained(planned) -> Workspace:
    fold = nnmedseg.train(
        2, "2d", 0, trainer="RoSPERTrainer", recipe=SHORT, seed=1, device="cpu",
        folders=planned.folders,
    )  # fmt: skip
    return Workspace(planned.folders, planned.dataset, fold.parent)


@pytest.fixture(scope="session")
def trained_native(planned) -> Workspace:
    """A model at the images' own resolution, of which nnU-Net knows all there is to know."""
    nnmedseg.plan_and_preprocess(
        2,
        trainers=["RoSPERTrainer"],
        configurations=["2d_native"],
        working_size=WORKING_SIZE,
        folders=planned.folders,
    )
    fold = nnmedseg.train(
        2, "2d_native", 0, trainer="RoSPERTrainer", recipe=SHORT, batch_size=2, seed=1,
        device="cpu", folders=planned.folders,
    )  # fmt: skip
    return Workspace(planned.folders, planned.dataset, fold.parent)


@pytest.fixture
def fresh(planned, tmp_path) -> Workspace:
    """A copy of the planned workspace that a test may change."""
    folders = Folders(*(tmp_path / name for name in ("raw", "preprocessed", "results")))
    for kind in ("raw", "preprocessed"):
        shutil.copytree(getattr(planned.folders, kind), getattr(folders, kind))
    resolve(tmp_path)
    return Workspace(folders, folders.raw / planned.dataset.name, folders.results / "none")


@pytest.fixture(autouse=True)
def _session_workspace_again(request):
    """Point nnU-Net's variables to the session's workspace, wherever an earlier test left them."""
    if "planned" in request.fixturenames:
        resolve(request.getfixturevalue("planned").root)
