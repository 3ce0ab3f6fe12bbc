"""Compiled networks: a compiler that fails is a message, and nothing runs uncompiled unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nnmedseg.errors import UserError

_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")


@contextmanager
def compiling_explained() -> Iterator[None]:
    """Turn an error of PyTorch's compiler, which works when a network first runs, into a message.

    Raises:
        UserError: The network cannot be compiled.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(_COMPILERS):
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"the network cannot be compiled: {type(error).__name__}: {reason}",
            where="--compile",
            mend="train with --no-compile, or mend what the compiler lacks (it needs a C++ "
            "compiler for the CPU, Triton for CUDA)",
        ) from error
