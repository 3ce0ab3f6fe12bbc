"""``run.json``: what exactly lies in a model folder, and how its training went.

What decides the result is written by :meth:`nnmedseg.training.settings.RunSettings.record` and
compared when a run goes on; all else is for readers. Nothing in it names the machine or the user.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

import nnmedseg
from nnmedseg.data.store import FILE_ENDING, checksum_of
from nnmedseg.files import atomic_path, read_json
from nnmedseg.ops.flops import count_flops
from nnmedseg.training.interruption import Interrupted
from nnmedseg.training.peak_memory import peak_memory
from nnmedseg.training.settings import RUN_FILE

logger = logging.getLogger(__name__)

PACKAGES = ("nnmedseg", "nnunetv2", "torch", "timm", "numpy")
_SECONDS_FOR_GIT = 10
_HOW_IT_WENT = (
    "command_line",  # which tells of folders on this machine
    "started",
    "resumed",
    "status",
    "wall_seconds",
    "epochs_done",
    "peak_memory_bytes",
    "events",
    "validation",
)


class RunRecord:
    """The file, brought up to date while the training goes on.

    Others write into it too: each change is made to what is there.

    Args:
        folder: The fold's folder.
    """

    def __init__(self, folder: Path):
        self._path = folder / RUN_FILE
        self._seconds_before = 0.0
        self._start = time.monotonic()

    def begin(self, facts: Mapping[str, Any], *, resumed: bool) -> None:
        """Write the facts of a run that begins, or add to those of the one that goes on."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        earlier = self.read() if resumed else {}
        self._seconds_before = float(earlier.get("wall_seconds", 0.0))
        times = {"started": earlier.get("started", now), "resumed": earlier.get("resumed", [])}
        if resumed:
            times["resumed"] = [*times["resumed"], now]
        self._write({**earlier, **facts, **times, "status": "running"})

    def update(self, **facts: Any) -> None:
        """Set facts, and how long the run has taken over all its parts."""
        seconds = self._seconds_before + time.monotonic() - self._start
        self._write({**self.read(), **facts, "wall_seconds": round(seconds, 1)})

    def add_network(self, trainer: nnUNetTrainer) -> None:
        """Add what the network costs, which a run that goes on knows already."""
        if "parameters" not in self.read():
            self.update(**network_figures(trainer))

    def facts(self) -> dict[str, Any]:
        """Return what the run was asked to do, on what and by what; nothing of how it went."""
        return {name: value for name, value in self.read().items() if name not in _HOW_IT_WENT}

    def read(self) -> dict[str, Any]:
        """Return what is in the file."""
        return read_json(self._path) if self._path.is_file() else {}

    def _write(self, content: Mapping[str, Any]) -> None:
        # Not waiting for the disk: what a power failure loses is that of an epoch at most.
        with atomic_path(self._path, durable=False) as temporary:
            text = json.dumps(content, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", "utf-8")


def differences(
    earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Go through the settings that were others earlier: name, earlier value, value now.

    Those within others are named ``recipe.epochs``. What was not recorded then is no difference.
    """
    for name, value in now.items():
        before = earlier.get(name, value)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            yield from differences(before, value, f"{prefix}{name}.")
        elif before != value:
            yield f"{prefix}{name}", before, value


@contextmanager
def status_recorded(record: RunRecord | None, device: torch.device) -> Iterator[None]:
    """Write how the run in the block has ended, where a record of it is kept."""
    status = "finished"
    try:
        yield
    except Interrupted as error:
        status = f"interrupted: {error.name}"
        raise
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except BaseException as error:
        reason = str(error).partition("\n")[0]
        status = f"failed: {reason or type(error).__name__}"
        raise
    finally:
        if record is not None:
            with suppress(OSError):  # where the disk is full, the reason matters more
                record.update(status=status, peak_memory_bytes=peak_memory(device))


def circumstances(device: torch.device, data: Path) -> dict[str, Any]:
    """Return what else made the result: program, data and machine.

    Args:
        device: Where the network is trained.
        data: Folder of the preprocessed data.
    """
    return {
        "command_line": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "data": data_identity(data),
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := _version(name)) is not None},
            "cuda": torch.version.cuda if device.type == "cuda" else None,
        },
        "git": git_state(Path(nnmedseg.__file__).parents[1]),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def plan_in_use(trainer: nnUNetTrainer) -> dict[str, Any]:
    """Return what the plans say of this run's batches, and the settings have changed."""
    plan = trainer.configuration_manager
    return {
        "images_in_a_batch": plan.batch_size,
        "patch_size": list(plan.patch_size),
        "spacing": list(plan.spacing),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and ``dirty`` of a checkout, or ``None`` of an installed package."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - the arguments are ours
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        capture_output=True,
        text=True,
        check=True,
        timeout=_SECONDS_FOR_GIT,
    ).stdout.strip()


def data_identity(folder: Path) -> dict[str, Any]:
    """Return a hash that tells whether two runs had the same preprocessed data.

    Photographs of 8 bits are stored with the checksums of their contents, which are hashed. Of
    nnU-Net's arrays, which have none, names and compressed sizes are. Neither depends on times or
    places of files.

    Returns:
        ``sha256``, ``of`` (what was hashed) and ``cases``.
    """
    photographs = sorted(folder.glob(f"*{FILE_ENDING}"))
    facts: list[tuple[str, int]]
    if photographs:
        facts = [(path.name, checksum_of(path)) for path in photographs]
        return _hashed(facts, "checksums of the stored images and masks", len(facts))
    arrays = sorted(path for path in folder.iterdir() if path.is_file())
    facts = [(path.name, path.stat().st_size) for path in arrays]
    cases = sum(path.suffix == ".pkl" for path in arrays)
    return _hashed(facts, "names and sizes of the stored arrays", cases)


def _hashed(facts: list[tuple[str, int]], of: str, cases: int) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return {"sha256": digest, "of": of, "cases": cases}


def network_figures(trainer: nnUNetTrainer) -> dict[str, Any]:
    """Return what the network of a trainer costs.

    Returns:
        ``parameters``, ``trained_parameters``, and ``flops_of_a_patch``: one forward pass in
        evaluation, a multiply-add counted as two, our own operators included; ``None`` where the
        network cannot be built without its weights.
    """
    parameters = list(trainer.network.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "flops_of_a_patch": _flops(trainer),
    }


def _flops(trainer: nnUNetTrainer) -> int | None:
    plan = trainer.configuration_manager
    try:
        with torch.device("meta"):
            network = trainer.build_network_architecture(
                trainer.plans_manager,
                plan,
                trainer.num_input_channels,
                trainer.label_manager.num_segmentation_heads,
                False,
            )
        return count_flops(network, (1, trainer.num_input_channels, *plan.patch_size))
    except Exception as error:  # whoever's network it is, its figures are not worth a training
        logger.debug("The FLOPs cannot be counted: %s", error)
        return None
