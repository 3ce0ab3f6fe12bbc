"""The processes that train one network together: how they join, part and tell each other."""

from __future__ import annotations

import datetime
import functools
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed as dist

from nnmedseg.errors import UserError
from nnmedseg.training.place import Place

T = TypeVar("T")

BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
"""PyTorch's backend for each kind of device that several processes can train on."""

LONGEST_WAIT = datetime.timedelta(hours=1)
"""For a process that is slower. Of one that has ended nobody waits that long: whoever has started
the processes sees it and ends the others."""


def check_devices(device: torch.device, count: int) -> None:
    """Refuse more processes than there are devices.

    Args:
        device: Kind of device.
        count: Processes on this machine.

    Raises:
        UserError: Several processes cannot train on such devices, or there are too few of them.
    """
    if count == 1:
        return
    if device.type not in BACKENDS:
        raise UserError(
            f"several processes cannot train on {device.type} devices",
            where="-num_gpus",
            mend=f"use --device {' or '.join(BACKENDS)}, or -num_gpus 1",
        )
    present = torch.cuda.device_count()
    if device.type == "cuda" and count > present:
        raise UserError(
            f"{count} GPUs are asked for, and PyTorch finds {present} on this machine",
            where="-num_gpus",
            mend=f"use at most {present}; CUDA_VISIBLE_DEVICES chooses which",
        )


def check_batch_size(batch_size: int, processes: int) -> None:
    """Refuse a batch that cannot be divided evenly.

    Uneven shares would weigh images differently, and nnU-Net's Dice loss over the whole batch
    cannot gather them.

    Raises:
        UserError: The processes would have shares of different sizes, or none.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        choices = [str(size) for size in (below, below + processes) if size]
        raise UserError(
            f"a batch of {batch_size} cannot be divided evenly among {processes} processes",
            where="-num_gpus",
            mend=f"use --batch-size {' or '.join(choices)}, or another number of processes",
        )


@functools.cache
def _meeting_point() -> dist.Store:
    """Return where processes meet that the environment has brought together."""
    store, _, _ = next(dist.rendezvous("env://"))
    return store


_groups = itertools.count()


@contextmanager
def joined(
    place: Place, device: torch.device, store: dist.Store | None = None
) -> Iterator[torch.device]:
    """Be one of the processes of a group inside the block; one on its own needs none.

    Args:
        place: Which one.
        device: Kind of device.
        store: Where the processes meet, or ``None`` for the place that the environment names.

    Yields:
        The device of this process.

    Raises:
        UserError: There are too few devices.
    """
    if place.size == 1:
        yield device
        return
    check_devices(device, place.local_size)
    if device.type == "cuda":
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group(
        BACKENDS[device.type],
        # A prefix of its own, so that a second group finds nothing that the first has left.
        store=dist.PrefixStore(f"nnmedseg/{next(_groups)}", store or _meeting_point()),
        rank=place.rank,
        world_size=place.size,
        timeout=LONGEST_WAIT,
    )
    with warnings.catch_warnings():
        # They differ in sides of length 1 only, where they mean nothing.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        yield device
    # Not after an error: the others may be waiting for us, and would make us wait for them.
    dist.destroy_process_group()


def from_first(value: T, place: Place) -> T:
    """Return the first process's value in all of them."""
    if place.size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """Return the values of all processes by rank."""
    if not in_group():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return [each for each in values if each is not None]


def in_group() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the first process do the block before the others, which find what it has downloaded."""
    if in_group() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if in_group() and dist.get_rank() == 0:
        dist.barrier()
