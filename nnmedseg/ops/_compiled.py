"""How functions are compiled by numba."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba

Kernel = Callable[..., Any]


def jit(function: Kernel) -> Kernel:
    """Compile a function when it is first called, and keep the machine code for later processes.

    numba looks for kept code by the function's name and the text of its file alone; the names here
    tell the text of all files of this folder, since kernels call functions of others. Without a
    folder that can be written to, each process compiles anew.
    """
    function.__qualname__ += f"_{_SOURCES}"
    try:
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy")(function))


def digest_of_sources(folder: Path) -> str:
    """Twelve digits that change with any Python file of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_SOURCES = digest_of_sources(Path(__file__).parent)
