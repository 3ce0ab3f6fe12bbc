"""The forms in which an operation can be run here, found by running them.

A form that does not work warns at its first use only, so what was found is kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from nnmedseg.errors import UserError
from nnmedseg.ops import deformable_depthwise_conv, selective_scan

SCAN = "NNMEDSEG_SCAN"
DEFORMABLE = "NNMEDSEG_DEFORMABLE"
SCAN_FORMS = {"cpu": ("chunked", "numba"), "cuda": ("chunked", "triton", "mamba_ssm")}
DEFORMABLE_FORMS = ("sampling", "numba")
"""Those that are made for a device, the readable one first."""


@contextmanager
def forced(**variables: str) -> Iterator[None]:
    """Set the environment variables that choose forms, which are read at each call."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def scan_forms(device: str = "cpu") -> tuple[list[str], list[str]]:
    """The forms of the selective scan that run here, and a line on each that does not."""
    tokens, rates = torch.rand(1, 64, 8, device=device), -torch.rand(8, 16, device=device)
    vectors = torch.rand(1, 64, 16, device=device)

    def run() -> None:
        u = tokens.clone().requires_grad_()
        out = selective_scan(u, tokens, rates, vectors, vectors)
        assert isinstance(out, Tensor)  # noqa: S101 - without the last state it is
        out.sum().backward()

    return available(SCAN, SCAN_FORMS[device], run)


@cache
def deformable_forms() -> tuple[list[str], list[str]]:
    """The same for our forms of the deformable convolution, on a CPU."""
    x, offset, weight = torch.rand(1, 8, 8, 8), torch.rand(1, 18, 8, 8), torch.rand(8, 1, 3, 3)

    def run() -> None:
        deformable_depthwise_conv(x.clone().requires_grad_(), offset, weight).sum().backward()

    return available(DEFORMABLE, DEFORMABLE_FORMS, run)


def available(
    variable: str, names: Iterable[str], run: Callable[[], None]
) -> tuple[list[str], list[str]]:
    """The forms with which ``run`` does not fail, and a line on each of the others."""
    found, notes = [], []
    for name in names:
        reason = _why_not(variable, name, run)
        if reason is None:
            found.append(name)
        else:
            notes.append(f"{variable}={name} is not measured: {reason}")
    return found, notes


def _why_not(variable: str, name: str, run: Callable[[], None]) -> str | None:
    """Why a form does not run here; a form that gives up says so in a warning."""
    warnings = _Warnings()
    logger = logging.getLogger("nnmedseg.ops")
    logger.addHandler(warnings)
    try:
        with forced(**{variable: name}):
            run()
    except UserError:
        return "this version does not have it"
    except Exception as error:  # whatever a foreign kernel raises
        return f"{type(error).__name__}: {error}"
    finally:
        logger.removeHandler(warnings)
    return "; ".join(warnings.messages) or None


class _Warnings(logging.Handler):
    """Collects the warnings of a logger."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
