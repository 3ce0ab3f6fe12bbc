"""MLflow and Weights & Biases, with their real clients and stores on this disk."""

import importlib.util

import pytest

from nnmedseg.errors import UserError
from nnmedseg.files import read_json
from nnmedseg.training.trackers import Tracking, check_installed

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="an extra: mlflow-skinny"
)
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="an extra")
NOBODY = "http://127.0.0.1:9"  # the port of a service that nobody runs


@pytest.fixture
def fold(tmp_path):
    folder = tmp_path / "results" / "Dataset001_Any" / "Trainer__Plans__2d" / "fold_0"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("ALLOW_FILE_STORE", "DISABLE_TELEMETRY", "HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(f"MLFLOW_{name}", {"HTTP_REQUEST_MAX_RETRIES": "0"}.get(name, "true"))
    return (tmp_path / "store").as_uri()


def train(trackers, fold, epochs, failed=False):
    tracking = Tracking(trackers, fold)
    tracking.open({"trainer": "RoSPERTrainer", "recipe": {"epochs": 3, "loss": "nnunet"}})
    for epoch in epochs:
        tracking.log({"loss/train": 1 / epoch, "pseudo_dice/a": float("nan")}, epoch)
    tracking.close(failed=failed)


def mlflow_run(store, fold):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    run = client.get_run(read_json(fold / "trackers.json")["mlflow"]["run_id"])
    history = client.get_metric_history(run.info.run_id, "loss/train")
    return run, [(metric.step, metric.value) for metric in history]


@needs_mlflow
def test_mlflow_has_settings_and_figures(mlflow_store, fold):
    train({"mlflow": mlflow_store}, fold, (1, 2))
    run, history = mlflow_run(mlflow_store, fold)
    assert run.data.params == {
        "trainer": "RoSPERTrainer",
        "recipe.epochs": "3",
        "recipe.loss": "nnunet",
    }
    assert history == [(1, 1.0), (2, 0.5)]
    assert run.info.status == "FINISHED"


@needs_mlflow
def test_a_resumed_training_goes_on_in_the_same_mlflow_run(mlflow_store, fold):
    train({"mlflow": mlflow_store}, fold, (1, 2), failed=True)
    first, _ = mlflow_run(mlflow_store, fold)
    train({"mlflow": mlflow_store}, fold, (2, 3, 4))
    run, history = mlflow_run(mlflow_store, fold)
    assert (first.info.run_id, first.info.status) == (run.info.run_id, "FAILED")
    assert [step for step, _ in history] == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"


@needs_mlflow
def test_without_a_uri_mlflow_writes_beside_the_results(mlflow_store, fold, tmp_path):
    train({"mlflow": None}, fold, (1,))
    _, history = mlflow_run((tmp_path / "results" / "mlruns").as_uri(), fold)
    assert history == [(1, 1.0)]


@needs_mlflow
@pytest.mark.usefixtures("mlflow_store")
def test_a_server_that_is_gone_is_said_once_and_stops_nothing(fold, caplog):
    train({"mlflow": NOBODY}, fold, range(1, 6))
    assert [record.levelname for record in caplog.records if "mlflow" in record.message] == [
        "WARNING"
    ]


@needs_mlflow
def test_what_could_not_be_sent_is_sent_when_the_tracker_is_there_again(
    mlflow_store, fold, tmp_path
):
    store = tmp_path / "store"
    store.write_text("in the way")
    tracking = Tracking({"mlflow": mlflow_store}, fold)
    tracking.open({})
    tracking.log({"loss/train": 1.0}, 1)
    store.unlink()
    tracking.log({"loss/train": 0.5}, 2)
    tracking.close(failed=False)
    assert mlflow_run(mlflow_store, fold)[1] == [(1, 1.0), (2, 0.5)]


@needs_wandb
def test_wandb_keeps_its_run_when_a_training_is_resumed(fold, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    train({"wandb": "tests"}, fold, (1, 2), failed=True)
    first = read_json(fold / "trackers.json")["wandb"]
    train({"wandb": "tests"}, fold, (2, 3))
    second = read_json(fold / "trackers.json")["wandb"]
    assert first == {"run_id": second["run_id"], "last_epoch": 2}
    assert second["last_epoch"] == 3
    assert len(list(fold.glob(f"wandb/offline-run-*/run-{second['run_id']}.wandb"))) == 2


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UserError, match="no tracker 'excel'"):
        check_installed({"excel": None})


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install nnmedseg\[mlflow\]"):
        check_installed({"mlflow": None})
