"""MLflow and Weights & Biases: the figures of each epoch, sent to where a team collects them.

A training never ends because of a tracker: what cannot be sent is said once and tried again. Which
run of a tracker belongs to a fold is kept in the fold's folder, so that a resumed training goes on
in it; epochs that it repeats are not sent twice.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json

logger = logging.getLogger(__name__)

PROJECT = "nnmedseg"
TRACKERS_FILE = "trackers.json"
SHARE_FOR_RETRIES = 0.01
"""Of the time, that attempts to reach a tracker may take once one has failed."""

_PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}


class Tracker(Protocol):
    """A place that figures are sent to."""

    def open(self, run_id: str | None, title: str, facts: Mapping[str, str]) -> str:
        """Begin a run, or go on with one; return its id."""

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Send an epoch's figures."""

    def close(self, *, failed: bool) -> None:
        """End the run."""


def check_installed(trackers: Mapping[str, str | None]) -> None:
    """Refuse a tracker that is not known or whose package is missing.

    Raises:
        UserError: It is.
    """
    for name in trackers:
        if name not in _PACKAGES:
            raise UserError(
                f"there is no tracker {name!r}", where="trackers", mend="use mlflow or wandb"
            )
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise UserError(
                f"the package {_PACKAGES[name]} is not installed",
                where=f"--{name}",
                mend=f"pip install nnmedseg[{name}]",
            )


class Tracking:
    """All trackers of a training, none of which can stop it.

    Args:
        trackers: URI of MLflow's store or W&B's project by ``"mlflow"`` or ``"wandb"``; ``None``
            for their usual ones.
        folder: The fold's folder.
    """

    def __init__(self, trackers: Mapping[str, str | None], folder: Path):
        self._folder = folder
        self._channels = [
            _Channel(name, _MAKERS[name](place, folder), folder) for name, place in trackers.items()
        ]

    def open(self, facts: Mapping[str, Any]) -> None:
        """Begin or go on.

        Args:
            facts: What the training was asked to do, nested.
        """
        title = " ".join(self._folder.parts[-3:])
        for channel in self._channels:
            channel.open(title, flat(facts))

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Send an epoch's figures, and those that could not be sent before."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for channel in self._channels:
            channel.log(finite, epoch)

    def close(self, *, failed: bool) -> None:
        """End; what cannot be sent now is lost."""
        for channel in self._channels:
            channel.close(failed=failed)


class _Channel:
    """One tracker, what is still to be sent to it, and when to try."""

    def __init__(self, name: str, tracker: Tracker, folder: Path):
        self._name, self._tracker = name, tracker
        self._file = folder / TRACKERS_FILE
        self._pending: list[tuple[Mapping[str, float], int]] = []
        self._is_open = self._has_warned = False
        self._not_before = -math.inf

    def open(self, title: str, facts: Mapping[str, str]) -> None:
        self._title, self._facts = title, facts
        self._attempt(lambda: None)

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        self._pending.append((metrics, epoch))
        if time.monotonic() >= self._not_before:
            self._attempt(self._send)

    def close(self, *, failed: bool) -> None:
        if self._is_open or self._pending:
            self._attempt(self._send)
        if self._is_open:
            self._attempt(lambda: self._tracker.close(failed=failed))

    def _send(self) -> None:
        """Send what is pending, but for epochs that an interrupted run has sent already."""
        sent = self._state().get("last_epoch", 0)
        while self._pending:
            metrics, epoch = self._pending[0]
            if epoch > sent:
                self._tracker.log(metrics, epoch)
                self._keep(last_epoch=epoch)
            del self._pending[0]

    def _attempt(self, action: Callable[[], None]) -> None:
        start = time.monotonic()
        try:
            if not self._is_open:
                known = self._state().get("run_id")
                self._keep(run_id=self._tracker.open(known, self._title, self._facts))
                self._is_open = True
            action()
        except Exception as error:  # their clients raise whatever their transport raises
            now = time.monotonic()
            self._not_before = now + (now - start) / SHARE_FOR_RETRIES
            if not self._has_warned:
                self._has_warned = True
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                logger.warning(
                    "%s cannot be reached; the training goes on, and sends its figures when it "
                    "can be: %s",
                    self._name,
                    reason,
                )

    def _state(self) -> dict[str, Any]:
        return self._all_states().get(self._name, {})

    def _all_states(self) -> dict[str, Any]:
        return read_json(self._file) if self._file.is_file() else {}

    def _keep(self, **facts: Any) -> None:
        write_json(
            {**self._all_states(), self._name: {**self._state(), **facts}},
            self._file,
        )


class MLflowTracker:
    """A run in an experiment called ``nnmedseg``.

    Args:
        uri: Address of a server, or a folder; ``None`` for MLflow's variable
            ``MLFLOW_TRACKING_URI`` or, without one, ``mlruns`` beside the data sets' results.
        folder: The fold's folder.
    """

    def __init__(self, uri: str | None, folder: Path):
        local = folder.parents[2] / "mlruns"
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or local.as_uri()
        if urlparse(self._uri).scheme in ("", "file"):
            # MLflow recommends a database instead, which needs more of it than its client.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        # A server that is gone must not hold the training up for minutes; we try again ourselves.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        # Who trains on patients' images decides on their own what is reported to whom.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

    def open(self, run_id: str | None, title: str, facts: Mapping[str, str]) -> str:
        """Begin a run, or go on with one; return its id."""
        from mlflow.entities import Param  # noqa: PLC0415 - an extra
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        self._client = MlflowClient(tracking_uri=self._uri)
        if run_id is None:
            experiment = self._client.get_experiment_by_name(PROJECT)
            if experiment is None:
                experiment_id = self._client.create_experiment(PROJECT)
            else:
                experiment_id = experiment.experiment_id
            self._run = self._client.create_run(experiment_id, run_name=title).info.run_id
            params = [Param(name, value) for name, value in facts.items()]
            self._client.log_batch(self._run, params=params)
        else:
            self._run = run_id
            self._client.update_run(run_id, status="RUNNING")
        return str(self._run)

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Send an epoch's figures in one request."""
        from mlflow.entities import Metric  # noqa: PLC0415

        now = round(time.time() * 1000)
        self._client.log_batch(
            self._run, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()]
        )

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


class WandbTracker:
    """A run of Weights & Biases, whose variables (``WANDB_MODE`` and others) hold.

    Args:
        project: Its project; ``None`` for the variable ``WANDB_PROJECT`` or ``nnmedseg``.
        folder: The fold's folder, in which W&B keeps its files.
    """

    def __init__(self, project: str | None, folder: Path):
        self._project = project or os.environ.get("WANDB_PROJECT") or PROJECT
        self._folder = folder
        # Without an answer W&B would wait for ever at the end; `wandb sync` sends what is left.
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")

    def open(self, run_id: str | None, title: str, facts: Mapping[str, str]) -> str:
        """Begin a run, or go on with one; return its id."""
        import wandb  # noqa: PLC0415 - an extra

        run_id = run_id or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=self._project,
            dir=str(self._folder),
            id=run_id,
            name=title,
            resume="allow",
            config=dict(facts),
            # The screen is ours, and so is the decision what to do when W&B does not answer.
            settings=wandb.Settings(console="off", silent=True, init_timeout=30),
        )
        return run_id

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Hand an epoch's figures to W&B's own process, which sends them."""
        self._run.log(dict(metrics), step=epoch)

    def close(self, *, failed: bool) -> None:
        """End the run, which waits until all is sent."""
        self._run.finish(exit_code=int(failed))


_MAKERS: Mapping[str, Callable[[str | None, Path], Tracker]] = {
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested facts as text by dotted names, as trackers take them."""
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found[f"{prefix}{name}"] = ", ".join(map(str, value))
        else:
            found[f"{prefix}{name}"] = str(value)
    return found
