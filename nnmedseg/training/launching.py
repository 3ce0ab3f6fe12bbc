"""Several processes on this machine that train together, ended together.

Whatever ends one of them ends all: the launcher watches them, so that nobody waits for a process
that is gone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from nnmedseg.errors import UserError
from nnmedseg.training.group import joined
from nnmedseg.training.interruption import Interrupted, interruptible
from nnmedseg.training.place import Place, quiet_unless_first

logger = logging.getLogger(__name__)

JobT = TypeVar("JobT")
Work = Callable[[JobT, Place, torch.device], None]
_Report = tuple[int, BaseException]

_HOST = "127.0.0.1"
_SECONDS_TO_END = 20
_EXIT_ERROR, _EXIT_SIGNAL = 1, 128


@dataclass(frozen=True)
class _Start:
    """What one process is given to begin with.

    Attributes:
        work: What it does.
        job: On what.
        device: Kind of device.
        place: Its place among the processes.
        port: Where they meet, on this machine.
        level: Of the log.
        method: How it starts its own processes, as the launcher would: one that was spawned would
            spawn its data loaders too, which takes longer, and on Linux leaves them behind when
            it is killed.
    """

    work: Work[Any]
    job: Any
    device: torch.device
    place: Place
    port: int
    level: int
    method: str


class RankError(RuntimeError):
    """One of several processes has failed; the message has its traceback."""


def launch(work: Work[JobT], job: JobT, device: torch.device, count: int) -> None:
    """Do a job in several new processes at once, one a device, and wait for all of them.

    Args:
        work: What each does, called with the job, its place and its device; a function of a module.
        job: Picklable.
        device: Kind of device.
        count: How many processes.

    Raises:
        UserError: One of the processes has raised it.
        RankError: One has raised another exception.
        Interrupted: A signal has ended this process or one of the others.
    """
    context = multiprocessing.get_context("spawn")
    store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    reports: SimpleQueue[_Report] = context.SimpleQueue()
    processes: list[SpawnProcess] = []
    level = logging.getLogger("nnmedseg").getEffectiveLevel()
    method = multiprocessing.get_start_method()
    try:
        for rank in range(count):
            place = Place(rank, count, rank, count)
            start = _Start(work, job, device, place, store.port, level, method)
            processes.append(context.Process(target=_be_one, args=(start, reports)))
            processes[-1].start()
        _wait_for(processes)
        _raise_failure(processes, reports)
    finally:
        _end(processes)


def _wait_for(processes: Sequence[SpawnProcess]) -> None:
    """Return when all have ended well, or one has not."""
    running: dict[Any, SpawnProcess] = {process.sentinel: process for process in processes}
    while running:
        for sentinel in wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                return


def _raise_failure(processes: Sequence[SpawnProcess], reports: SimpleQueue[_Report]) -> None:
    """Raise what has ended the first process that failed; the others have only lost it."""
    rank, error = (0, None) if reports.empty() else reports.get()
    if isinstance(error, UserError):
        raise error
    for number, process in enumerate(processes):
        code = process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            logger.error("Process %d of %d was killed (%s)", number + 1, len(processes), name)
        if code < 0 or code > _EXIT_SIGNAL:
            raise Interrupted(-code if code < 0 else code - _EXIT_SIGNAL)
    if error is not None:
        raise RankError(f"process {rank + 1} of {len(processes)} has failed:\n{error}")
    for number, process in enumerate(processes):
        if process.exitcode:
            raise RankError(f"process {number + 1} of {len(processes)} has failed, see above")


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End what still runs: politely, and after a while by force."""
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_SECONDS_TO_END)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def _be_one(start: _Start, reports: SimpleQueue[_Report]) -> None:
    """Be one of the processes, and end with the exit code that a shell expects."""
    multiprocessing.set_start_method(start.method, force=True)
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("nnmedseg").setLevel(start.level)
    try:
        with interruptible(once=True):
            store = dist.TCPStore(_HOST, start.port, is_master=False)
            joining = joined(start.place, start.device, store)
            with quiet_unless_first(start.place), joining as device:
                start.work(start.job, start.place, device)
    except Interrupted as error:
        sys.exit(error.exit_code)
    except UserError as error:
        reports.put((start.place.rank, error))
        sys.exit(_EXIT_ERROR)
    except Exception:
        reports.put((start.place.rank, RuntimeError(traceback.format_exc())))
        sys.exit(_EXIT_ERROR)


def _end_with_launcher() -> None:
    """End this process at once when the launcher was killed, and with it its data loaders."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os._exit(_EXIT_ERROR)
