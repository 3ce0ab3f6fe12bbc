"""Ending a run cleanly when a signal asks for it, with no process left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = (
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
    "SIGUSR1",
)  # SIGUSR1: Slurm's warning before the time limit
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_UNTOUCHED = (signal.SIG_DFL, signal.default_int_handler)
_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 5


class Interrupted(KeyboardInterrupt):
    """A signal has asked the process to end.

    Attributes:
        name: Name of the signal.
        exit_code: What a shell expects from a process that the signal has ended.
    """

    def __init__(self, number: int):
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(self.name)


@contextmanager
def interruptible(*, once: bool = False) -> Iterator[None]:
    """Raise `Interrupted` in the block when a signal asks to end; forked children die with us.

    Signals that somebody else handles, or that the shell has told us to ignore (nohup), are left
    alone, and so is everything outside the main thread, where Python knows no signals.

    Args:
        once: Pass over all signals after the first, which would disturb the ending that it asks
            for; whoever has started this process ends it by force if it takes too long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _raise_once if once else _raise
    replaced = {
        number: signal.signal(number, handler)
        for number in _SIGNALS
        if signal.getsignal(number) in _UNTOUCHED
    }
    _children.bound = True
    try:
        yield
    finally:
        _children.bound = False
        for number, before in replaced.items():
            signal.signal(number, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _raise_once(number: int, frame: FrameType | None) -> None:
    for each in _SIGNALS:
        if signal.getsignal(each) is _raise_once:
            signal.signal(each, _pass_over)
    raise Interrupted(number)


def _pass_over(number: int, frame: FrameType | None) -> None:
    # Not SIG_IGN: Python complains where a signal has arrived just before.
    pass


def _end_soon(number: int, frame: FrameType | None) -> None:
    """End a child that nobody else ends.

    A signal to the whole group reaches the trainer too, which then ends its loaders in order; were
    they gone before, it would take that for a failure.
    """
    signal.alarm(_SECONDS_TO_END)


class _Children:
    """Binds the processes that are forked from the main thread to the life of this one.

    nnU-Net's loaders wait for ever for a trainer that was killed. Linux ends them if they ask it
    to, which they do as soon as they are forked. The wish holds for the life of the thread that
    forked, so that children of other threads are left alone.
    """

    def __init__(self) -> None:
        self.bound = False
        self.parent = 0
        self._forking = threading.local()
        self._system = ctypes.CDLL(None) if sys.platform == "linux" else None

    def before_fork(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._forking.binds = self.bound and in_main_thread
        if in_main_thread:
            self.parent = os.getpid()

    def after_fork(self) -> None:
        if not getattr(self._forking, "binds", False):
            return
        self.bound = False
        for number in _SIGNALS:
            if signal.getsignal(number) in (_raise, _raise_once):
                ends = number == signal.SIGTERM
                signal.signal(number, _end_soon if ends else signal.SIG_IGN)
        if self._system is not None:
            self._system.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.parent:
                os._exit(1)  # it died before we asked


_children = _Children()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_children.before_fork, after_in_child=_children.after_fork)
