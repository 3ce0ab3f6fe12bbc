"""What nnU-Net prints, brought into our log."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator


class _LogWriter(io.TextIOBase):
    """A text stream whose lines go to a logger at level DEBUG."""

    def __init__(self, logger: logging.Logger):
        self._logger = logger
        self._pending = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.debug("nnU-Net: %s", line)
        return len(text)


@contextlib.contextmanager
def captured_output(logger: logging.Logger) -> Iterator[None]:
    """Send what nnU-Net prints inside the block to ``logger`` at level DEBUG."""
    with contextlib.redirect_stdout(_LogWriter(logger)):
        yield
