"""Two processes that train one network, by the command itself."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import nnmedseg
from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.paths import VARIABLES, Folders
from nnmedseg.training.checkpoints import LATEST, read_checkpoint
from nnmedseg.training.group import check_batch_size, check_devices
from nnmedseg.training.place import Place, number_of_processes

from ..faults.test_interruption import alive_in_group, wait_until_gone
from ..faults.tiny_workspace import CASES, NAME, PLANS, write_workspace
from .conftest import NNUNET_VARIABLES
from .test_interrupted_training import heed_keyboard, wait_for

PLUGIN = Path(__file__).with_name("witness_trainer.py")
BATCH = 4
COMMANDS = Path(sys.executable).parent
LAUNCHER = [COMMANDS / "nnmedseg_train", "-num_gpus", "2"]
TORCHRUN = [
    COMMANDS / "torchrun", "--standalone", "--nproc_per_node", "2", "-m", "nnmedseg.cli.train",
]  # fmt: skip
ARCHITECTURE = {
    "network_class_name": "nnmedseg.networks.adapter.PlannedNetwork",
    "arch_kwargs": {"network": "rosper", "strides": [[1, 1]]},
    "_kw_requires_import": [],
}


@dataclass(frozen=True)
class Tiny:
    """A workspace with a tiny data set, planned for the network of the trainer in the plugin."""

    folders: Folders

    @property
    def root(self):
        return self.folders.raw.parent

    @property
    def fold(self):
        return self.folders.results / NAME / f"WitnessTrainer__{PLANS}__2d" / "fold_0"

    def of_rank(self, rank):
        return torch.load(self.root / f"rank_{rank}", weights_only=True)

    def final_weights(self):
        return read_checkpoint(self.fold / "checkpoint_final.pth")["network_weights"]


def tiny_workspace(root):
    before = {name: os.environ.get(name) for name in NNUNET_VARIABLES}
    tiny = Tiny(write_workspace(root))
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    plans_file = tiny.folders.preprocessed / NAME / f"{PLANS}.json"
    plans = read_json(plans_file)
    plans["configurations"]["2d"]["architecture"] = ARCHITECTURE
    write_json(plans, plans_file)
    return tiny


@pytest.fixture
def tiny(tmp_path):
    return tiny_workspace(tmp_path)


def start(tiny, command, *options, epochs=1):
    return subprocess.Popen(
        [
            *command, "900", "2d", "0", "-tr", "WitnessTrainer", "--plugin", PLUGIN,
            "--epochs", str(epochs), "--iterations", "2", "--batch-size", str(BATCH),
            "--device", "cpu", "--workspace", tiny.root, *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_keyboard,  # noqa: PLW1509 - no thread of ours holds a lock here
        env={**os.environ, "WITNESS": str(tiny.root)},
    )  # fmt: skip


def train(root, command):
    """Train in two processes; return the workspace, and what was printed."""
    tiny = tiny_workspace(root)
    process = start(tiny, command, "--seed", "1")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return tiny, output


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    return train(tmp_path_factory.mktemp("launched"), LAUNCHER)


@pytest.fixture(scope="module")
def with_torchrun(tmp_path_factory):
    return train(tmp_path_factory.mktemp("torchrun"), TORCHRUN)


@pytest.mark.slow
def test_all_processes_end_with_the_weights_of_the_checkpoint(launched):
    tiny, _ = launched
    for rank in range(2):
        weights = tiny.of_rank(rank)["weights"]
        torch.testing.assert_close(weights, dict(tiny.final_weights()), rtol=0, atol=0)


@pytest.mark.slow
def test_the_processes_divide_the_batch(launched):
    tiny, _ = launched
    assert [tiny.of_rank(rank)["batch_size"] for rank in range(2)] == [BATCH // 2] * 2


@pytest.mark.slow
def test_the_record_names_processes_and_backend(launched):
    record = read_json(launched[0].fold / "run.json")
    assert (record["processes"], record["backend"]) == (2, "gloo")


@pytest.mark.slow
def test_the_validation_has_every_case_once(launched):
    summary = read_json(launched[0].fold / "validation" / "summary.json")
    predicted = [Path(case["prediction_file"]).stem for case in summary["metric_per_case"]]
    assert predicted == CASES[4:]


@pytest.mark.slow
def test_one_process_speaks_for_all(launched):
    _, output = launched
    for said_once in ("Starting from random weights", "Epoch 1/1", "Mean Validation Dice"):
        assert output.count(said_once) == 1


@pytest.mark.slow
def test_torchrun_repeats_what_the_command_does_with_the_same_seed(launched, with_torchrun):
    expected, found = launched[0].final_weights(), with_torchrun[0].final_weights()
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)


@pytest.mark.slow
def test_a_killed_process_ends_all(tiny):
    running = start(tiny, LAUNCHER, epochs=1000)
    try:
        wait_for(running, tiny.fold / LATEST)
        os.kill(int((tiny.root / "rank_1.pid").read_text()), signal.SIGKILL)
        output, _ = running.communicate(timeout=120)
        assert running.returncode == 128 + signal.SIGKILL
        assert output.count("Process 2 of 2 was killed (SIGKILL)") == 1
        assert "Traceback" not in output
        assert not wait_until_gone(running.pid)
        assert read_checkpoint(tiny.fold / LATEST)["current_epoch"] >= 1
    finally:
        end(running)


@pytest.mark.slow
def test_a_signal_ends_all_processes(tiny):
    running = start(tiny, LAUNCHER, epochs=1000)
    try:
        wait_for(running, tiny.fold / LATEST)
        os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does
        output, _ = running.communicate(timeout=120)
        assert running.returncode == 128 + signal.SIGINT
        assert output.count("Stopped by SIGINT; the same command goes on") == 1
        assert "Traceback" not in output
        assert not wait_until_gone(running.pid)
    finally:
        end(running)


def end(running):
    for left in alive_in_group(running.pid):
        os.kill(left, signal.SIGKILL)
    running.wait()


@pytest.mark.slow
def test_a_mistake_that_all_processes_find_is_said_once(tiny):
    process = start(tiny, TORCHRUN, "--batch-size", "2")
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert output.count("needs two images of a batch in each process") == 1
    assert "nnmedseg/trainers" not in output  # as in a traceback of ours


@pytest.mark.slow
def test_another_number_of_processes_may_go_on(launched, caplog, monkeypatch):
    tiny, _ = launched
    (tiny.fold / "validation" / "summary.json").unlink()
    monkeypatch.setenv("NNMEDSEG_PLUGINS", str(PLUGIN))
    for kind, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str(getattr(tiny.folders, kind)))
    with caplog.at_level("INFO"):
        nnmedseg.train(
            900, "2d", 0, trainer="WitnessTrainer", recipe={"epochs": 1, "iterations": 2},
            batch_size=BATCH, seed=1, device="cpu", folders=tiny.folders,
        )  # fmt: skip
    assert "Going on with 1 process(es), begun with 2" in caplog.text
    assert (tiny.fold / "validation" / "summary.json").is_file()


@pytest.mark.parametrize(("size", "mend"), [(2, "--batch-size 3,"), (7, "--batch-size 6 or 9,")])
def test_a_batch_that_cannot_be_divided_is_refused(size, mend):
    with pytest.raises(
        UserError, match=f"a batch of {size} cannot be divided.*3 processes"
    ) as error:
        check_batch_size(size, 3)
    assert mend in str(error.value)


def test_devices_that_train_alone_are_refused():
    with pytest.raises(UserError, match="cannot train on mps"):
        check_devices(torch.device("mps"), 2)


def test_more_processes_than_gpus_are_refused():
    present = torch.cuda.device_count()
    with pytest.raises(UserError, match=f"PyTorch finds {present}"):
        check_devices(torch.device("cuda"), present + 2)


def test_processes_are_not_started_twice():
    with pytest.raises(UserError, match="torchrun has started 4 processes"):
        number_of_processes(Place(size=4), 2)
