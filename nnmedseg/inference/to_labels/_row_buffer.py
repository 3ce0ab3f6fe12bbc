"""Rows that come in slabs of any thickness."""

from __future__ import annotations

import torch


class RowBuffer:
    """Holds the rows of an image that are still needed.

    What is appended is the giver's memory until `own` or `keep_from` is called.

    Attributes:
        start: Number of the first row that is held.
        stop: Number of the row that comes next.
    """

    def __init__(self) -> None:
        self.start = 0
        self.stop = 0
        self._slabs: list[torch.Tensor] = []
        self._lent: torch.Tensor | None = None

    @property
    def rows(self) -> torch.Tensor:
        """What is held, ``(K, rows, lines, columns)``."""
        if len(self._slabs) != 1:
            self._slabs = [torch.cat(self._slabs, 1)]
        return self._slabs[0]

    def append(self, rows: torch.Tensor) -> None:
        """Add ``(K, n, lines, columns)`` behind those that are held."""
        self._slabs.append(rows)
        self._lent = rows
        self.stop += rows.shape[1]

    def own(self) -> None:
        """Copy what was appended last, if it is still the giver's."""
        if self._slabs and self._slabs[-1] is self._lent:
            self._slabs[-1] = self._slabs[-1].clone()
        self._lent = None

    def keep_from(self, row: int) -> None:
        """Forget the rows before this one, and hold the others in memory of their own."""
        row = min(max(row, self.start), self.stop)
        if row > self.start:
            rest = self.rows[:, row - self.start :]
            self._slabs = [rest.clone()] if rest.shape[1] else []
            self.start = row
        self.own()
