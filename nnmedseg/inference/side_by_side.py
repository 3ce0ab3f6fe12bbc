"""Several tiles at once on a CPU, each in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from nnmedseg.cores import thread_count
from nnmedseg.inference.cpu_layout import is_u_net_in_2d

MOST_WORKERS = 4
"""How many tiles are computed at once at most, which bounds the memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SideBySide:
    """Threads of which each computes something else with its share of the cores.

    The threads of one computation wait for each other after every layer, and some layers have one
    thread only: on two cores, two tiles of a U-Net took 0.8 of the time side by side.

    Attributes:
        workers: How many things are computed at once.

    Args:
        cores: To be shared, at least 2.
    """

    def __init__(self, cores: int):
        self.workers = min(cores, MOST_WORKERS)
        share = cores // self.workers
        started = threading.Barrier(self.workers + 1)

        def start() -> None:
            torch.get_num_threads()  # without this, the first operation would set its number anew
            torch.set_num_threads(share)
            started.wait()

        self._pool = ThreadPoolExecutor(self.workers, "tile", initializer=start)
        for _ in range(self.workers):
            self._pool.submit(int)  # each starts a thread
        started.wait()
        torch.set_num_threads(cores)  # of this thread and of later ones

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what a function returns for each item, in order; few results wait at a time."""
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) > self.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def side_by_side_for(network: nn.Module, device: torch.device) -> SideBySide | None:
    """Return threads for the tiles of a network that is fastest so, on a CPU of several cores.

    nnU-Net's 2D networks are. Others were not measured, or compute in threads of their own.
    """
    suits = device.type == "cpu" and is_u_net_in_2d(network)
    cores = thread_count()
    return SideBySide(cores) if suits and cores > 1 else None
