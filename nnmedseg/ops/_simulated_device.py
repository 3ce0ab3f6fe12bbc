"""Which device a tensor without values stands for.

Operators choose by device how they compute. Tensors on ``meta`` have shapes and types only; while
a device is simulated they are treated as its own, so that a network keeps and copies on ``meta``
what it would keep and copy there. The planner measures memory so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_simulated: ContextVar[str] = ContextVar("simulated", default="meta")


@contextmanager
def simulated_device(device_type: str) -> Iterator[None]:
    """Treat tensors on ``meta`` as those of a type of device, for instance ``"cuda"``."""
    token = _simulated.set(device_type)
    try:
        yield
    finally:
        _simulated.reset(token)


def device_type(tensor: Tensor) -> str:
    """Return the type of the tensor's device, or of the one that it stands for."""
    actual = tensor.device.type
    return _simulated.get() if actual == "meta" else actual
