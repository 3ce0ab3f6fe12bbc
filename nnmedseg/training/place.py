"""Which of several processes this one is, known before PyTorch is imported."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nnmedseg.errors import UserError

_SET_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LONGEST_SEARCH = datetime.timedelta(seconds=10)
_EXIT_USER_ERROR, _EXIT_ERROR = 2, 1


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is; the default is a process on its own.

    Attributes:
        rank: Number among all processes.
        size: How many processes there are.
        local_rank: Number among those on this machine.
        local_size: How many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what only one may write."""
        return self.rank == 0


def place_from_environment() -> Place:
    """Return the place that ``torchrun``, or who sets the same variables, has given us."""
    if any(name not in os.environ for name in _SET_BY_TORCHRUN):
        return Place()
    size = int(os.environ["WORLD_SIZE"])
    return Place(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    )


def number_of_processes(place: Place, num_gpus: int) -> int:
    """Return how many processes train together.

    Raises:
        UserError: They are to be started by us, and have been started by ``torchrun``.
    """
    if num_gpus > 1 and place.size > 1:
        raise UserError(
            f"torchrun has started {place.size} processes already",
            where=f"-num_gpus {num_gpus}",
            mend="leave -num_gpus out; torchrun's --nproc_per_node says how many there are",
        )
    return max(num_gpus, place.size)


@contextmanager
def quiet_unless_first(place: Place) -> Iterator[None]:
    """Show in the block only what the first process says; errors are shown by whoever has them."""
    if place.is_first:
        yield
        return
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123 - no path of ours
            contextlib.redirect_stdout(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def one_report_of_failure(place: Place) -> Iterator[None]:
    """Let only one of the processes that ``torchrun`` has started report what goes wrong.

    One error is often met by all: each finds the same mistake, or loses the others.

    Raises:
        SystemExit: Another process has been first to fail.
    """
    try:
        yield
    except Exception as error:
        if place.size == 1 or _is_first_failure():
            raise
        code = _EXIT_USER_ERROR if isinstance(error, UserError) else _EXIT_ERROR
        raise SystemExit(code) from None


def _is_first_failure() -> bool:
    from torch import distributed as dist  # noqa: PLC0415 - nnU-Net's variables come before

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=_LONGEST_SEARCH,
        )
        return store.add(f"nnmedseg/failures/{attempt}", 1) == 1
    except RuntimeError:
        return True  # whoever kept the store has gone: better twice than never
